/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/fiber/context.h"

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)

/* Saves what the System V ABI lets a callee keep, swaps stacks, restores, returns to the other's
 * caller. rdi: where to put the old stack pointer; rsi: the new one. */
extern "C" void fiber_switch_stacks(void **old_sp, void *new_sp);
asm(".text\n"
    ".p2align 4\n"
    ".hidden fiber_switch_stacks\n"
    ".globl fiber_switch_stacks\n"
    ".type fiber_switch_stacks, @function\n"
    "fiber_switch_stacks:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    retq\n"
    ".size fiber_switch_stacks, . - fiber_switch_stacks\n");

static void set_up(fiber_context *c, unsigned char *top, void (*entry)())
{
    /* As if entry's caller had called the switch: six saved registers, the return address, and the
     * stack 8 bytes off a multiple of 16, as a function finds it. */
    void **sp = (void **)(void *)(top - 64);
    memset(sp, 0, 64);
    sp[6] = (void *)(uintptr_t)entry;
    c->sp = sp;
}

static void swap(fiber_context *from, fiber_context *to) { fiber_switch_stacks(&from->sp, to->sp); }

#else

static void set_up(fiber_context *c, unsigned char *top, void (*entry)())
{
    (void)top;
    getcontext(&c->at);
    c->at.uc_stack.ss_sp = (void *)(uintptr_t)c->stack;
    c->at.uc_stack.ss_size = c->stack_bytes;
    c->at.uc_link = NULL;
    makecontext(&c->at, entry, 0);
}

static void swap(fiber_context *from, fiber_context *to) { swapcontext(&from->at, &to->at); }

#endif

#if FIBER_ASAN

/* Where the switch came from: its stack's extent is known only on arrival. */
static fiber_context *came_from;

static void leave_stack(fiber_context *from, fiber_context *to, bool for_good)
{
    came_from = from;
    __sanitizer_start_switch_fiber(for_good ? NULL : &from->fake, to->stack, to->stack_bytes);
}
static void arrive(fiber_context *me)
{
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(me->fake, &stack, &bytes);
    if (came_from) { /* of the launching thread nobody else knows it */
        came_from->stack = stack;
        came_from->stack_bytes = bytes;
    }
}

#elif FIBER_TSAN

static void leave_stack(fiber_context *from, fiber_context *to, bool for_good)
{
    (void)for_good;
    if (!from->tsan)
        from->tsan = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to->tsan, 0);
}
static void arrive(fiber_context *me) { (void)me; }

#else

static void leave_stack(fiber_context *from, fiber_context *to, bool for_good)
{
    (void)from;
    (void)to;
    (void)for_good;
}
static void arrive(fiber_context *me) { (void)me; }

#endif

void fiber_context_init(fiber_context *c, unsigned char *stack, size_t bytes, void (*entry)())
{
#if FIBER_TSAN
    if (!c->tsan)
        c->tsan = __tsan_create_fiber(0);
#endif
#if FIBER_ASAN
    enum {
        FRAME_BYTES = 4096
    }; /* the last fiber's entry never returned: its frame is still marked */
    __asan_unpoison_memory_region(stack + bytes - FRAME_BYTES, FRAME_BYTES);
#endif
    c->stack = stack;
    c->stack_bytes = bytes;
    c->fake = NULL;
    set_up(c, stack + bytes, entry);
}

void fiber_context_switch(fiber_context *from, fiber_context *to)
{
    leave_stack(from, to, false);
    swap(from, to);
    arrive(from);
}

void fiber_context_leave(fiber_context *from, fiber_context *to)
{
    leave_stack(from, to, true);
    swap(from, to);
}

void fiber_context_entered(fiber_context *me) { arrive(me); }
