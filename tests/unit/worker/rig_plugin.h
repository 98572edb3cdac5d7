/* SPDX-License-Identifier: Apache-2.0 */
/* A device whose memory the host cannot touch: the reference kernels behind the table of plugin.h.
 * Its memory has no access rights but inside of kernels and copies, so that a worker which reads or
 * writes it otherwise dies at once. What a model computes there has the bits of --isa ref. Any
 * number of devices; threads may run their kernels beside each other. */
#pragma once

#include <heddle/plugin.h>

const hdl_plugin *rig_plugin(void);
