/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops of the probes, compiled once per instruction set (HDL_ISA). */
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef struct hdl_probe_loops {
    /* Reads bytes (a multiple of 4096) and returns something that depends on all of them. */
    uint64_t (*read)(const void *mem, size_t bytes);
    /* Each does `rounds` rounds and returns the operations done (a multiply-add counts two). */
    double (*f32)(uint64_t rounds);
    double (*bf16)(uint64_t rounds);
    double (*int8)(uint64_t rounds);
} hdl_probe_loops;

extern const hdl_probe_loops hdl_probe_avx2, hdl_probe_avx512;
