/* SPDX-License-Identifier: Apache-2.0 */
/* Planted bugs: each is a mistake that a scheduler like this one has made somewhere, kept so
 * that the simulator can prove that it would be found. They exist only in the objects of
 * heddle_core_planted (-DHDL_PLANT_BUGS, tests/sim); in the library that ships, hdl_planted()
 * is the constant false and the switch is never read. */
#pragma once

// clang-format off
#define HDL_BUG_LIST(X) \
    X(STALE_BLOCK, "stale-block", "a block taken from the cache keeps its published content") \
    X(PREMATURE_REUSE, "premature-reuse", "a victim's blocks are reused in the step it runs in") \
    X(HASH_ONLY_HIT, "hash-only-hit", "a prefix hit compares a few bits of the hash, no tokens") \
    X(HALF_PUBLISHED, "half-published", "a half-filled block enters the prefix index") \
    X(LOST_CANCEL, "lost-cancel", "a cancel during prefill is forgotten") \
    X(DOUBLE_FINISH, "double-finish", "the step in flight finishes a sequence once more") \
    X(STARVED_TENANT, "starved-tenant", "the tenant with the lowest number always goes first") \
    X(CHUNK_OFF_BY_ONE, "chunk-off-by-one", "a cut prefill chunk skips a token") \
    X(FORK_NO_COPY, "fork-no-copy", "a fork writes into its parent's partial block") \
    X(EMIT_TWICE, "emit-twice", "a requeued sequence emits its last token again") \
    X(NEXT_CHUNK_ONLY, "next-chunk-only", "admission counts the next chunk, not all context") \
    X(LOST_FORK, "lost-fork", "forks of a cancelled parent are never released") \
    X(REF_LEAK, "ref-leak", "preemption forgets the last block of its victim") \
    X(PROMISE_DEADLOCK, "promise-deadlock", "the head waits for log pages promised to others") \
    X(WINDOW_EARLY, "window-early", "a block leaves its window one row too early") \
    X(SNAPSHOT_SHIFTED, "snapshot-shifted", "a state is kept for the edge before its position") \
    X(GUESS_OVER_EDGE, "guess-over-edge", "guesses go on into a block that nobody took") \
    X(GUESS_AND_GO_ON, "guess-and-go-on", "the next plan does not wait for what guesses bring") \
    X(GUESS_UNSHIFTED, "guess-unshifted", "tokens before guesses that held are looked for amiss") \
    X(GUESS_KEPT, "guess-kept", "a guess that did not hold counts as computed") \
    X(DUP_RESULT, "dup-result", "a result that was absorbed before is absorbed again")
// clang-format on

#define HDL_BUG_ENUM(name, text, what) HDL_BUG_##name,
typedef enum hdl_bug { HDL_BUG_NONE, HDL_BUG_LIST(HDL_BUG_ENUM) HDL_BUG_COUNT } hdl_bug;
#undef HDL_BUG_ENUM

struct hdl_sched;

#ifdef HDL_PLANT_BUGS
void hdl_sched_plant(struct hdl_sched *sched, hdl_bug bug);
#define hdl_planted(sched, name) ((sched)->bug == HDL_BUG_##name)
#else
#define hdl_planted(sched, name) false
#endif
