/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over every file of the folders named on the command line, in any build and
 * with any compiler, so that what fuzzing once found stays found. libFuzzer itself is linked only
 * by the fuzz preset. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return -1;
    size_t cap = 1u << 20, len = 0;
    uint8_t *bytes = malloc(cap);
    if (bytes != NULL)
        len = fread(bytes, 1, cap, f);
    fclose(f);
    if (bytes == NULL)
        return -1;
    /* An exact-size copy lets the address sanitizer see a read one byte past the end. */
    uint8_t *exact = malloc(len > 0 ? len : 1);
    if (exact != NULL) {
        memcpy(exact, bytes, len);
        (void)LLVMFuzzerTestOneInput(exact, len);
    }
    free(exact);
    free(bytes);
    return exact != NULL ? 0 : -1;
}

int main(int argc, char **argv)
{
    int n_files = 0;
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (dir == NULL) {
            fprintf(stderr, "%s: no such corpus folder\n", argv[i]);
            return 1;
        }
        for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
            char path[4096];
            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s", argv[i], e->d_name);
            if (replay_file(path) != 0) {
                fprintf(stderr, "%s: cannot be read\n", path);
                return 1;
            }
            n_files++;
        }
        closedir(dir);
    }
    printf("%d corpus files replayed\n", n_files);
    return n_files > 0 ? 0 : 1;
}
