/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

uint64_t hdl_clock_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

hdl_time_us hdl_clock_now_us(void)
{
    /* One more than the clock, so that 0 can mean "never" even right after boot. */
    return hdl_clock_now_ns() / 1000 + 1;
}

hdl_time_us hdl_clock_wall_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * HDL_SEC_US + (uint64_t)ts.tv_nsec / 1000;
}

static char *put_digits(char *out, unsigned value, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return out + digits;
}

void hdl_clock_format(hdl_time_us wall_us, char out[HDL_CLOCK_TEXT_BYTES])
{
    /* The last second of the year 9999; later ones would need a fifth digit. */
    const hdl_time_us last_us = 253402300799u * HDL_SEC_US + 999999u;
    if (wall_us > last_us)
        wall_us = last_us;
    time_t seconds = (time_t)(wall_us / HDL_SEC_US);
    struct tm tm = {.tm_year = 70, .tm_mday = 1};
    gmtime_r(&seconds, &tm);
    char *p = put_digits(out, (unsigned)tm.tm_year + 1900, 4);
    *p++ = '-';
    p = put_digits(p, (unsigned)tm.tm_mon + 1, 2);
    *p++ = '-';
    p = put_digits(p, (unsigned)tm.tm_mday, 2);
    *p++ = 'T';
    p = put_digits(p, (unsigned)tm.tm_hour, 2);
    *p++ = ':';
    p = put_digits(p, (unsigned)tm.tm_min, 2);
    *p++ = ':';
    p = put_digits(p, (unsigned)tm.tm_sec, 2);
    *p++ = '.';
    p = put_digits(p, (unsigned)(wall_us % HDL_SEC_US), 6);
    *p++ = 'Z';
    *p = '\0';
}

void hdl_clock_sleep_us(hdl_time_us us)
{
    struct timespec left = {.tv_sec = (time_t)(us / HDL_SEC_US),
                            .tv_nsec = (long)(us % HDL_SEC_US) * 1000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
}
