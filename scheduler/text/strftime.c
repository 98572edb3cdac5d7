/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/text/strftime.h"

typedef struct date {
    int year, month, day, weekday,
        yearday; /* month and day from 1, weekday 0 = Sunday, yearday from 1 */
    int hour, minute, second;
} date;

static bool leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }

static date date_of(uint64_t wall_us)
{
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    uint64_t seconds = wall_us / 1000000 % (400ull * 366 * 86400); /* centuries are enough */
    int days = (int)(seconds / 86400), rest = (int)(seconds % 86400);
    date d = {.year = 1970,
              .month = 1,
              .weekday = (days + 4) % 7,
              .hour = rest / 3600,
              .minute = rest / 60 % 60,
              .second = rest % 60};
    for (; days >= 365 + leap(d.year); d.year++)
        days -= 365 + leap(d.year);
    d.yearday = days + 1;
    for (int i = 0; days >= month_days[i] + (i == 1 && leap(d.year)); i++, d.month++)
        days -= month_days[i] + (i == 1 && leap(d.year));
    d.day = days + 1;
    return d;
}

static const char *const WEEKDAYS[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                       "Thursday", "Friday", "Saturday"};
static const char *const MONTHS[] = {"January",   "February", "March",    "April",
                                     "May",       "June",     "July",     "August",
                                     "September", "October",  "November", "December"};

static hdl_err directive(char c, bool bare, const date *d, hdl_buf *out)
{
    const struct {
        char c;
        int value, digits;
    } numbers[] = {{'d', d->day, 2},    {'m', d->month, 2},
                   {'Y', d->year, 4},   {'y', d->year % 100, 2},
                   {'H', d->hour, 2},   {'M', d->minute, 2},
                   {'S', d->second, 2}, {'I', (d->hour + 11) % 12 + 1, 2},
                   {'j', d->yearday, 3}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].c == c)
            return hdl_buf_printf(out, "%0*d", bare ? 1 : numbers[i].digits, numbers[i].value);
    if (bare)
        return HDL_UNSUPPORTED;
    switch (c) {
    case 'e': return hdl_buf_printf(out, "%2d", d->day);
    case 'a': return hdl_buf_printf(out, "%.3s", WEEKDAYS[d->weekday]);
    case 'A': return hdl_buf_puts(out, WEEKDAYS[d->weekday]);
    case 'b': return hdl_buf_printf(out, "%.3s", MONTHS[d->month - 1]);
    case 'B': return hdl_buf_puts(out, MONTHS[d->month - 1]);
    case 'p': return hdl_buf_puts(out, d->hour < 12 ? "AM" : "PM");
    case 'F': return hdl_buf_printf(out, "%04d-%02d-%02d", d->year, d->month, d->day);
    case 'T': return hdl_buf_printf(out, "%02d:%02d:%02d", d->hour, d->minute, d->second);
    case 'Z': return hdl_buf_puts(out, "UTC");
    case 'z': return hdl_buf_puts(out, "+0000");
    case '%': return hdl_buf_puts(out, "%");
    default: return HDL_UNSUPPORTED;
    }
}

hdl_err hdl_strftime(uint64_t wall_us, hdl_text format, hdl_buf *out)
{
    date d = date_of(wall_us);
    for (size_t i = 0; i < format.len; i++) {
        if (format.p[i] != '%') {
            HDL_TRY(hdl_buf_append(out, &format.p[i], 1));
            continue;
        }
        bool bare = i + 1 < format.len && format.p[i + 1] == '-';
        i += bare ? 2 : 1;
        if (i >= format.len)
            return HDL_UNSUPPORTED;
        HDL_TRY(directive(format.p[i], bare, &d, out));
    }
    return HDL_OK;
}
