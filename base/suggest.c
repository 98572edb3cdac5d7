/* SPDX-License-Identifier: Apache-2.0 */
/* "Did you mean": the optimal string alignment distance (edits and swaps of neighbours), on
 * words of at most 63 bytes. */
#include <string.h>

#include "base/units.h"

enum { WORD_MAX = 63 };

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

static int distance(const char *a, const char *b)
{
    int n_a = (int)strlen(a), n_b = (int)strlen(b);
    if (n_a > WORD_MAX || n_b > WORD_MAX)
        return WORD_MAX;
    int rows[3][WORD_MAX + 1];
    int *before = rows[0], *above = rows[1], *row = rows[2];
    for (int j = 0; j <= n_b; j++)
        above[j] = before[j] = j;
    for (int i = 1; i <= n_a; i++) {
        row[0] = i;
        for (int j = 1; j <= n_b; j++) {
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        int *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[n_b];
}

int hdl_suggest(const char *word, const char *const *candidates, size_t count)
{
    int best = -1;
    /* A third of the letters may be wrong, at least one and at most four. */
    int len = (int)strnlen(word, WORD_MAX + 1);
    int limit = len / 3 < 1 ? 1 : len / 3 > 4 ? 4 : len / 3;
    for (size_t i = 0; i < count; i++) {
        if (!candidates[i])
            continue;
        int d = distance(word, candidates[i]);
        if (d <= limit) {
            limit = d - 1;
            best = (int)i;
        }
    }
    return best;
}
