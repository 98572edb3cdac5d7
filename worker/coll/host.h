/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine is to others: its addresses, and whether two processes share it. Any thread;
 * addresses may ask the name service. */
#pragma once

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <heddle/err.h>

/* "10.0.0.7:7001" or "[fd00::7]:7001"; a name instead of the number is resolved. */
hdl_err hdl_address_read(const char *text, struct sockaddr_storage *out,
                         hdl_errmsg *why) HDL_MUST_CHECK;
/* false: it does not fit, or is of no family that we know. */
bool hdl_address_print(const struct sockaddr_storage *address, char *text, size_t size);

/* The address of this machine that it reaches `towards` from, with the port; towards empty or a
 * unix socket: loopback. */
hdl_err hdl_address_own(const char *towards, uint16_t port, struct sockaddr_storage *out,
                        hdl_errmsg *why) HDL_MUST_CHECK;

/* Equal for processes that can meet in shared memory: of one running kernel, with one /dev/shm.
 * Pods on one node are two machines in this sense. 0: not known. */
uint64_t hdl_host_machine(void);

/* The name of the network interface that has the address. */
hdl_err hdl_address_interface(const struct sockaddr_storage *address, char name[IF_NAMESIZE],
                              hdl_errmsg *why) HDL_MUST_CHECK;

size_t hdl_address_bytes(const struct sockaddr_storage *address);
void hdl_address_set_port(struct sockaddr_storage *address, uint16_t port);
