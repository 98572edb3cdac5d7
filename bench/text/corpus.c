/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/text/corpus.h"

#include <heddle/types.h>
#include <string.h>

#include "base/rng.h"

static const char *const lines[] = {
    "static int find(const struct table *t, const char *key, size_t len, uint32_t *out)\n{\n",
    "    for (size_t i = hash(key, len) & t->mask; t->slot[i].key != NULL; i = (i + 1) & "
    "t->mask)\n",
    "        if (t->slot[i].len == len && memcmp(t->slot[i].key, key, len) == 0) {\n            "
    "*out "
    "= (uint32_t)i;\n            return 0;\n        }\n    return -1; /* not found */\n}\n\n",
    "def read_rows(path: str, *, limit: int = 10_000) -> list[dict[str, float]]:\n    \"\"\"Rows "
    "of a "
    "file, newest first.\"\"\"\n    with open(path, encoding=\"utf-8\") as file:\n",
    "        rows = [json.loads(line) for line in file if not line.startswith(\"#\")]\n    return "
    "sorted(rows, key=lambda row: -row[\"time\"])[:limit]\n\n",
    "SELECT u.name, COUNT(*) AS n FROM orders o JOIN users u ON u.id = o.user_id WHERE o.total >= "
    "12.50 GROUP BY 1;\n",
    "{\"id\": 4711, \"tags\": [\"a\", \"b\"], \"price\": 2.5e-3, \"note\": null, \"nested\": "
    "{\"ok\": "
    "true}}\n",
    "export default function App({ items }) {\n  const [open, setOpen] = useState(false);\n  "
    "return "
    "<ul className=\"list\">{items.map((i) => <li key={i.id}>{i.name}</li>)}</ul>;\n}\n",
    "The scheduler plans a step, the workers compute it, and whatever arrives in the meantime has "
    "to "
    "wait for the next one. It's simple, isn't it?\n",
    "However, a prompt of a hundred thousand characters should never hold up the others: they've "
    "been "
    "waiting longer, and they will notice.\n",
    "| name | value | unit |\n|---|--:|---|\n| bandwidth | 1,234.5 | GB/s |\n\n## Results\n\n",
    "Der Übergang über den Fluss war schwieriger, als wir gedacht hatten; größere Boote gab es "
    "nicht.\n",
    "L'été dernier, nous avons mangé des crêpes près du château, où l'on n'entendait que les "
    "oiseaux.\n",
    "¿Dónde está la biblioteca? Mañana iremos al museo, señor, y después volveremos a casa.\n",
    "O coração não esquece; amanhã talvez chova, mas a manhã de hoje está muito bonita.\n",
    "Вчера мы долго говорили о том, как быстро меняется погода, и никто не хотел уходить домой.\n",
    "Η πόλη ήταν ήσυχη το πρωί και οι δρόμοι άδειοι, μόνο ένας σκύλος περπατούσε αργά.\n",
    "ذهبنا إلى السوق في الصباح واشترينا الخبز والزيتون ثم عدنا إلى البيت قبل الظهر.\n",
    "הלכנו לאורך החוף עד שהשמש שקעה, ואחר כך ישבנו ודיברנו על הימים שעברו.\n",
    "सुबह की ठंडी हवा में हम नदी के किनारे चलते रहे और पुराने दिनों की बातें करते रहे।\n",
    "今天早上我们沿着河边走了很久,谈起了以前的事情,谁也不想回家。天气很好,风也不大。\n",
    "朝の川沿いを長いあいだ歩きながら、昔のことを話していた。コーヒーを飲んで帰りました。\n",
    "아침에 강가를 오래 걸으면서 옛날 이야기를 했다. 아무도 집에 가고 싶어 하지 않았다.\n",
    "เช้าวันนี้เราเดินริมแม่น้ำเป็นเวลานานและพูดคุยเรื่องเก่าๆ ไม่มีใครอยากกลับบ้าน\n",
    "👍🏽 done — 3 of 12 🎉 (see §4.2 … “later”)\n\n",
};

/* Letters from which words are made; a script of its own each. */
static const struct {
    uint32_t from, to;
} scripts[] = {{'a', 'z'},       {'a', 'z'},       {0x430, 0x44f}, {0x3b1, 0x3c9},
               {0x627, 0x64a},   {0x5d0, 0x5ea},   {0x915, 0x939}, {0x4e00, 0x9fa0},
               {0x3041, 0x3093}, {0xac00, 0xd7a3}, {0xe01, 0xe2e}};

static size_t put_char(char *p, uint32_t c)
{
    if (c < 0x80) {
        p[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        p[0] = (char)(0xc0 | c >> 6);
        p[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    p[0] = (char)(0xe0 | c >> 12);
    p[1] = (char)(0x80 | (c >> 6 & 63));
    p[2] = (char)(0x80 | (c & 63));
    return 3;
}

static hdl_err put_word(hdl_rng *rng, size_t script, hdl_buf *out)
{
    char word[64];
    size_t n = 0, letters = hdl_rng_range(rng, 3, 11);
    while (letters-- > 0)
        n += put_char(word + n,
                      (uint32_t)hdl_rng_range(rng, scripts[script].from, scripts[script].to));
    word[n++] = ' ';
    return hdl_buf_append(out, word, n);
}

/* A line of the list, with a new identifier in some places. */
static hdl_err put_line(hdl_rng *rng, hdl_buf *out)
{
    for (const char *p = lines[hdl_rng_below(rng, HDL_ARRAY_LEN(lines))]; *p != '\0';) {
        size_t n = strcspn(p, " ");
        HDL_TRY(hdl_buf_append(out, p, n + (p[n] == ' ')));
        p += n + (p[n] == ' ');
        if (hdl_rng_chance(rng, 1, 8) && *p != '\0')
            HDL_TRY(put_word(rng, 0, out));
    }
    return HDL_OK;
}

const char *hdl_corpus_name(hdl_corpus_kind kind)
{
    static const char *const names[] = {[HDL_CORPUS_MIXED] = "mixed", [HDL_CORPUS_RARE] = "rare"};
    return names[kind];
}

hdl_err hdl_corpus_write(hdl_corpus_kind kind, uint64_t seed, size_t size, hdl_buf *out)
{
    hdl_rng rng;
    hdl_rng_init(&rng, seed);
    while (out->len < size)
        if (kind == HDL_CORPUS_MIXED)
            HDL_TRY(put_line(&rng, out));
        else
            for (size_t script = hdl_rng_below(&rng, HDL_ARRAY_LEN(scripts)), n = 0; n < 12; n++)
                HDL_TRY(put_word(&rng, script, out));
    return HDL_OK;
}
