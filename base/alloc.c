/* SPDX-License-Identifier: Apache-2.0 */
/* The trap replaces the C library's allocator entry points in the program's own symbol table, so
 * calls from shared libraries are caught as well, and hands on to glibc's __libc_* names. --wrap
 * was tried first: it sees only our own objects. */
#include "base/alloc.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#if defined(HDL_TRAP_ALLOC) && defined(__GLIBC__) && !defined(SANITIZED)

static _Thread_local unsigned frozen;
static _Thread_local bool count_only;
static _Thread_local uint64_t alloc_count;
static _Thread_local uint64_t violation_count;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

static void check(const char *what)
{
    if (__builtin_expect(frozen == 0, 1))
        return;
    violation_count++;
    if (count_only)
        return;
    frozen = 0; /* the report may allocate */
    hdl_assert_fail(what, 0, "allocation on a frozen thread (after READY nothing may allocate)");
}

void *malloc(size_t size)
{
    check("malloc");
    alloc_count++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    check("calloc");
    alloc_count++;
    return __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
    check("realloc");
    alloc_count++;
    return __libc_realloc(p, size);
}

void *memalign(size_t align, size_t size)
{
    check("memalign");
    alloc_count++;
    return __libc_memalign(align, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    check("aligned_alloc");
    alloc_count++;
    return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size)
{
    check("posix_memalign");
    if (align % sizeof(void *) != 0 || align == 0 || (align & (align - 1)) != 0)
        return EINVAL;
    alloc_count++;
    void *p = __libc_memalign(align, size);
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

void free(void *p)
{
    if (p)
        check("free");
    __libc_free(p);
}

void hdl_alloc_freeze(void) { frozen++; }

void hdl_alloc_thaw(void)
{
    HDL_ASSERT(frozen > 0);
    frozen--;
}

unsigned hdl_alloc_suspend(void)
{
    unsigned was = frozen;
    frozen = 0;
    return was;
}

void hdl_alloc_resume(unsigned suspended) { frozen = suspended; }

bool hdl_alloc_traps(void) { return true; }

uint64_t hdl_alloc_count(void) { return alloc_count; }

void hdl_alloc_trap_count_only(bool on) { count_only = on; }

uint64_t hdl_alloc_violations(void) { return violation_count; }

#else

void hdl_alloc_freeze(void) {}

void hdl_alloc_thaw(void) {}

unsigned hdl_alloc_suspend(void) { return 0; }

void hdl_alloc_resume(unsigned suspended) { (void)suspended; }

bool hdl_alloc_traps(void) { return false; }

uint64_t hdl_alloc_count(void) { return 0; }

void hdl_alloc_trap_count_only(bool on) { (void)on; }

uint64_t hdl_alloc_violations(void) { return 0; }

#endif
