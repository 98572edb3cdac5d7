/* SPDX-License-Identifier: Apache-2.0 */
/* The table of requests against a plain array: add, find, remove in random order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <heddle/types.h>

#include "base/rng.h"
#include "scheduler/cluster/state.h"

enum { MAX = 300, IDS = 1000, ROUNDS = 200000 };

static hdl_request *make(uint64_t id)
{
    hdl_request *req = calloc(1, sizeof *req);
    assert_non_null(req);
    req->id.v = id;
    return req;
}

static void behaves_like_an_array(void **state)
{
    (void)state;
    hdl_requests table;
    hdl_request *model[IDS] = {0};
    uint32_t count = 0;
    hdl_rng rng;
    hdl_rng_init(&rng, 11);
    assert_int_equal(hdl_requests_init(&table, MAX), HDL_OK);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t id = 1 + hdl_rng_below(&rng, IDS - 1);
        hdl_entry *entry = hdl_requests_find(&table, (hdl_req_id){id});
        assert_ptr_equal(entry ? entry->req : NULL, model[id]);
        if (entry && hdl_rng_chance(&rng, 1, 2)) {
            hdl_request *req = hdl_requests_remove(&table, entry);
            assert_ptr_equal(req, model[id]);
            hdl_request_free(req);
            model[id] = NULL;
            count--;
        } else {
            hdl_request *req = make(id);
            hdl_entry *added = hdl_requests_add(&table, req);
            assert_int_equal(added != NULL, model[id] == NULL && count < MAX);
            if (added) {
                model[id] = req;
                count++;
            } else {
                hdl_request_free(req);
            }
        }
        assert_int_equal(table.count, count);
    }
    hdl_requests_deinit(&table); /* frees the rest: the leak checker counts */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(behaves_like_an_array)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
