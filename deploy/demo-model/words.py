# SPDX-License-Identifier: Apache-2.0
"""The closed lists behind the generated text: words, names, places, units.

Everything here was written for this model. Task generators (tasks.py, chat.py) only combine these
lists, so the lists are also the exact limit of what the model can know.
"""

WORDS = """
able acorn actor after again alarm alive amber angle animal ankle apple april apron arena arrow
aunt autumn baby bacon badge baker banana band bank barn basket bath beach bean bear beard bed bee
bell belt bench berry bike bird black blanket blue board boat body bone book boot bottle bowl box
boy branch brave bread brick bridge broom brother brown brush bucket bull bus butter button cabin
cable cake camel camera candle candy car card carpet carrot castle cat chair chalk cheese cherry
chess chicken child circle city class clay clean clock cloth cloud clown coat coffee coin cold
comb cook copper corn cotton couch cousin cow crab crane crown cup curtain dance daisy dark day
deer desk dinner doctor dog doll donkey door dragon dream dress drink driver drum duck dust eagle
ear earth east egg elbow engine evening eye face fairy family farm farmer father feather fence
field finger fire fish flag flame floor flower flute fly foot forest fork fox friend frog fruit
garden gate ghost giant gift girl glass glove goat gold goose grape grass green guitar hair hammer
hand happy harbor hat hawk head heart heddle hello hill honey horse hotel hour house ice ink iron
island jacket jam jar jewel juice jungle kettle key king kitchen kite kitten knee knife lady lake
lamp laptop leaf lemon letter library light lion lizard loom lunch magic mango map marble market
mask meadow melon metal milk mirror money monkey moon morning mother mountain mouse mouth mud
music nail neck needle nest night north nose number nurse ocean office oil olive onion orange oven
owl page paint palace panda paper parrot party path pea peach pear pen pencil pepper person phone
piano picture pig pillow pilot pipe pizza planet plant plate pocket pond pony potato prince puppy
purple queen quiet rabbit radio rain rainbow red ribbon rice ring river road robot rock roof room
root rope rose ruler sail salad salt sand school sea seed shadow sheep shell ship shirt shoe
silver singer sister skirt sky sleep smile snail snake snow soap sock sofa soup south spider spoon
spring square stable stamp star station stone storm story street sugar summer sun table tail tea
teacher tent thread ticket tiger toast tomato tooth tower town toy train travel tree truck tulip
turtle uncle valley vase village violin voice wagon wall water weather weaver west whale wheat
wheel white wind window winter wolf woman wood wool world worm yarn year yellow young zebra
""".split()

NAMES = """
Adam Alice Anna Ben Carl Clara Daniel David Emma Eva Felix Frank George Grace Hannah Henry Ida
Ivan Jack Jane John Julia Karl Kate Laura Leo Lily Lucy Maria Mark Mary Max Mia Nina Noah Oscar
Paul Peter Rosa Ruth Sam Sara Simon Sofia Tom Vera Victor Walter Zoe
""".split()

# Country -> capital.
CAPITALS = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon",
    "Austria": "Vienna", "Poland": "Warsaw", "Norway": "Oslo", "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen", "Ireland": "Dublin", "Greece": "Athens", "Hungary": "Budapest",
    "Russia": "Moscow",
    "Turkey": "Ankara", "Egypt": "Cairo", "Kenya": "Nairobi", "India": "Delhi", "China": "Beijing",
    "Japan": "Tokyo", "Korea": "Seoul", "Thailand": "Bangkok", "Vietnam": "Hanoi",
    "Canada": "Ottawa",
    "Cuba": "Havana", "Peru": "Lima", "Chile": "Santiago", "Belgium": "Brussels",
    "England": "London",
    "Iceland": "Reykjavik", "Ukraine": "Kyiv", "Romania": "Bucharest", "Bulgaria": "Sofia",
    "Croatia": "Zagreb",
    "Australia": "Canberra", "Iran": "Tehran", "Iraq": "Baghdad", "Nepal": "Kathmandu",
    "Morocco": "Rabat",
}

UNKNOWN_COUNTRIES = """
Atlantis Narnia Utopia Arcadia Elbonia Freedonia Lilliput Mordor Oz Wakanda
""".split()

CITIES = sorted(set(CAPITALS.values()) - {"Sofia"})

DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

MONTHS = """
January February March April May June July August September October November December
""".split()

# (from, to, factor, largest count asked).  Counts are chosen so that the answers stay short.
UNITS = [
    ("meters", "centimeters", 100, 99), ("kilometers", "meters", 1000, 99),
    ("kilograms", "grams", 1000, 99),
    ("liters", "milliliters", 1000, 99), ("centimeters", "millimeters", 10, 99),
    ("tons", "kilograms", 1000, 99),
    ("dollars", "cents", 100, 99), ("hours", "minutes", 60, 10), ("minutes", "seconds", 60, 10),
    ("weeks", "days", 7, 10), ("days", "hours", 24, 5), ("years", "months", 12, 10),
    ("feet", "inches", 12, 10),
]

OPPOSITES = [
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("left", "right"), ("day", "night"),
    ("fast", "slow"),
    ("old", "young"), ("happy", "sad"), ("rich", "poor"), ("high", "low"), ("hard", "soft"),
    ("open", "closed"),
    ("wet", "dry"), ("full", "empty"), ("light", "dark"), ("good", "bad"), ("long", "short"),
    ("early", "late"),
    ("strong", "weak"), ("clean", "dirty"), ("near", "far"), ("loud", "quiet"), ("black", "white"),
    ("first", "last"),
    ("yes", "no"), ("in", "out"), ("on", "off"), ("true", "false"), ("win", "lose"),
    ("buy", "sell"),
    ("thick", "thin"), ("deep", "shallow"), ("north", "south"), ("east", "west"),
    ("above", "below"),
]

THINGS = """
apples pears plums books coins cards eggs pens stamps shells stones cakes balls flowers boxes cups
""".split()

JOBS = "baker doctor farmer teacher nurse pilot painter cook driver singer writer weaver".split()

COLORS = "red blue green yellow black white brown orange purple pink".split()

ADJECTIVES = """
big small old young happy red blue green quick slow brave quiet warm cold little kind tall
""".split()

ANIMALS = "cat dog horse cow bird fox bear lion rabbit mouse owl goat sheep duck frog tiger".split()

PLACES = "house garden park school forest kitchen river town market tower barn field".split()

VERBS = "sees finds likes follows meets helps hears watches".split()
