/* SPDX-License-Identifier: Apache-2.0 */
/* What `heddle doctor` found. A check looks at one thing of this host, reads only, and appends what
 * it found to the report; doctor.c prints it. Main thread. */
#pragma once

#include <heddle/config.h>
#include <stdio.h>

typedef enum doctor_level { DOCTOR_OK, DOCTOR_WARN, DOCTOR_FAIL } doctor_level;

typedef struct doctor_finding {
    doctor_level level;
    const char *what; /* "huge pages" */
    char found[256];  /* what is so */
    char advice[256]; /* what to do; "" when nothing */
} doctor_finding;

enum { DOCTOR_FINDINGS_MAX = 48 };
typedef struct doctor_report {
    const hdl_config *config; /* borrowed */
    bool has_config;          /* a file was given: what it names is checked too */
    doctor_finding findings[DOCTOR_FINDINGS_MAX];
    size_t n;
} doctor_report;

/* found and advice are set by the caller in the returned entry. */
doctor_finding *doctor_add(doctor_report *r, doctor_level level, const char *what);

typedef void doctor_check(doctor_report *r);
/* doctor_host.c: the machine. */
doctor_check doctor_cpu, doctor_gpu, doctor_topology, doctor_memory, doctor_huge_pages, doctor_shm,
    doctor_ucx, doctor_limits, doctor_clock;
/* doctor_config.c: what the configuration names. */
doctor_check doctor_model, doctor_ports, doctor_certificates, doctor_secrets;
