/* SPDX-License-Identifier: Apache-2.0 */
/* Events as bytes: what the flight recorder writes and `heddle replay` reads.
 *
 * Ids and sizes are kept, text is not: a token becomes a keyed hash of (position, token), which is
 * equal where the core compares tokens - the same position of two sequences - and says nothing
 * else. Guesses (guess.h) compare tokens of different positions: what the core guessed in an event
 * is recorded behind it, and told to the core that replays. A generated token that ended its
 * sequence becomes HDL_JOURNAL_STOP, as does every stop id. The key never leaves the process that
 * records. A replay of such a file makes the same decisions, so hdl_sched_digest, which looks at no
 * token, comes out the same. Little-endian. Pure; any thread. */
#pragma once

#include "scheduler/core/sched.h"

enum { HDL_JOURNAL_VERSION = 5, HDL_JOURNAL_HEADER_BYTES = 1216, HDL_JOURNAL_STOP = 0x7fffffff };

/* One record holds an event, the guesses that the one before it led to, or the digest of all
 * actions so far. */
typedef struct hdl_journal_record {
    bool is_digest, is_guesses;
    hdl_told guesses;
    hdl_event event; /* pointers borrowed: until the bytes or the scratch change */
    bool by_plan; /* a RESULT whose rows answer the plan: tokens[] alone, hdl_journal_rows makes the
                     rows */
    uint32_t n_tokens;
    const hdl_token *tokens;
    uint64_t n_events, digest; /* of a digest record */
} hdl_journal_record;

typedef struct hdl_journal_reader {
    const unsigned char *bytes; /* borrowed; 8-byte aligned */
    size_t size, at;
} hdl_journal_reader;

/* The file's first bytes: magic, version, configuration. out has HDL_JOURNAL_HEADER_BYTES. */
void hdl_journal_header(const hdl_sched_config *config, unsigned char *out);
/* HDL_CORRUPT for what is no journal, HDL_UNSUPPORTED for another version; *why is a text for a
 * person. The configuration is checked too. The bytes stay borrowed by the reader. */
hdl_err hdl_journal_open(hdl_journal_reader *r, const void *bytes, size_t size,
                         hdl_sched_config *config, const char **why) HDL_MUST_CHECK;

/* The most bytes that hdl_journal_event writes for it. */
size_t hdl_journal_event_bytes(const hdl_event *event);
/* Writes the event that `sched` is about to be given; out is 8-byte aligned. Returns the bytes
 * written, a multiple of 8. */
size_t hdl_journal_event(const hdl_sched *sched, const hdl_event *event, uint64_t key,
                         unsigned char *out);
/* Writes the guesses in the plans of an event's actions. Returns 0 when there are none; at most
 * hdl_journal_guess_bytes. */
size_t hdl_journal_guesses(const hdl_actions *actions, uint64_t key, unsigned char *out);
size_t hdl_journal_guess_bytes(const hdl_sched_config *config);
enum { HDL_JOURNAL_DIGEST_BYTES = 32 };
size_t hdl_journal_digest(uint64_t n_events, uint64_t digest, unsigned char *out);

/* The next record. HDL_OK; HDL_NOTFOUND at the end (a torn last record is the end); HDL_CORRUPT. */
hdl_err hdl_journal_next(hdl_journal_reader *r, hdl_journal_record *rec) HDL_MUST_CHECK;
/* For a RESULT by plan: builds the rows in rows[max] from the plan that `sched` waits for and sets
 * event.result. False when the state has no such plan, which means that file and state do not
 * belong together. */
bool hdl_journal_rows(const hdl_sched *sched, hdl_journal_record *rec, hdl_result_row *rows,
                      uint32_t max);
