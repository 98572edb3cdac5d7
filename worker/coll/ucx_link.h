/* SPDX-License-Identifier: Apache-2.0 */
/* UCX under coll_ucx: one connection between each two ranks of a group, made anew for each epoch.
 *
 * A hdl_coll_door listens; once the scheduler has told all ranks where the others listen, each
 * dials those of lower rank and is dialled by those of higher. The first message on a connection,
 * either way, is a greeting with the epoch's secret; whoever sends another one is hung up on. Then
 * bytes flow in order (UCX's stream interface), so a message is from whom it seems to be from.
 *
 * Owner: the step thread; UCX has a thread of its own for connections. UCX allocates from pools
 * that grow in first use; these calls suspend the trap (base/alloc.h). The only file that sees UCX
 * is ucx_link.c. It loads the library when the first door opens: a worker that needs none runs
 * without.
 */
#pragma once

#include "worker/coll/coll_impl.h"

/* Waits until all ranks have greeted each other; watches hdl_coll_stop of coll and its deadline.
 * The door takes no guests any more. */
hdl_err hdl_ucx_meet(hdl_coll_door *door, const hdl_coll_opts *opts, const hdl_coll *coll,
                     hdl_errmsg *why) HDL_MUST_CHECK;

/* Begin to send to and to receive from a rank of the world; one of each at a time and rank. The
 * memory is UCX's until hdl_ucx_wait has returned HDL_OK or the door is closed. */
hdl_err hdl_ucx_send(hdl_coll_door *door, uint32_t rank, const void *buf,
                     size_t bytes) HDL_MUST_CHECK;
hdl_err hdl_ucx_recv(hdl_coll_door *door, uint32_t rank, void *buf, size_t bytes) HDL_MUST_CHECK;

/* Until all that was begun is done. HDL_PEER: a rank is gone; else HDL_TIMEOUT, HDL_CANCELLED. */
hdl_err hdl_ucx_wait(hdl_coll_door *door, const hdl_coll *coll) HDL_MUST_CHECK;
