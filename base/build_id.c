/* SPDX-License-Identifier: Apache-2.0 */
#include "base/build_id.h"

#include <link.h>
#include <stdbool.h>
#include <string.h>

#include "base/hash.h"

static size_t padded(size_t n) { return (n + 3) & ~(size_t)3; }

static uint64_t find_in_notes(const char *notes, size_t size)
{
    ElfW(Nhdr) note;
    for (size_t at = 0; at + sizeof note <= size;) {
        memcpy(&note, notes + at, sizeof note);
        size_t name = at + sizeof note, desc = name + padded(note.n_namesz);
        size_t end = desc + padded(note.n_descsz);
        if (desc < name || end < desc || end > size)
            break;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
            memcmp(notes + name, "GNU", 4) == 0)
            return hdl_hash_bytes(notes + desc, note.n_descsz, 1);
        at = end;
    }
    return 0;
}

/* The first object is the program itself. */
static int look(struct dl_phdr_info *info, size_t size, void *arg)
{
    uint64_t *id = arg;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum && *id == 0; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_NOTE)
            *id = find_in_notes((const char *)(info->dlpi_addr + p->p_vaddr), p->p_memsz);
    }
    return 1;
}

uint64_t hdl_build_id(void)
{
    uint64_t id = 0;
    dl_iterate_phdr(look, &id);
    return id;
}
