/* SPDX-License-Identifier: Apache-2.0 */
/* Where a fiber stands, and the switch from one to another: a few instructions on x86-64, ucontext
 * elsewhere. Sanitizers are told of every switch, so that stacks are checked and races are not
 * invented. Owner: fiber.cc. */
#pragma once

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define FIBER_ASAN 1
#include <sanitizer/asan_interface.h>
#elif defined(__SANITIZE_THREAD__)
#define FIBER_TSAN 1
#include <sanitizer/tsan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBER_ASAN 1
#include <sanitizer/asan_interface.h>
#elif __has_feature(thread_sanitizer)
#define FIBER_TSAN 1
#include <sanitizer/tsan_interface.h>
#endif
#endif

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

struct fiber_context {
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t at;
#endif
    const void *stack; /* lowest byte; the caller's own: as the sanitizer tells */
    size_t stack_bytes;
    void *fake, *tsan; /* the sanitizers' own */
};

/* The next switch to it calls entry, which must not return. */
void fiber_context_init(fiber_context *c, unsigned char *stack, size_t bytes, void (*entry)());
void fiber_context_switch(fiber_context *from, fiber_context *to);
/* The same, for good. */
void fiber_context_leave(fiber_context *from, fiber_context *to);
/* First thing on a new stack. */
void fiber_context_entered(fiber_context *me);
