/* SPDX-License-Identifier: Apache-2.0 */
/* What the machine offers. Everything is read from /proc, /sys and system calls. */
#include "cli/doctor.h"

#include <glob.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/timex.h>
#include <unistd.h>

#include <heddle/coll.h>
#include <heddle/ops.h>
#include <heddle/topo.h>

#include "base/thread.h"
#include "base/units.h"
#include "worker/worker.h"

#define SAY(field, ...)  snprintf((field), sizeof(field), __VA_ARGS__)
#define GIB              ((uint64_t)1 << 30)
#define FILES_WANTED     16384
#define SHM_WANTED_BYTES ((uint64_t)256 << 20)

/* First line of a small file, or "" when there is none. */
static const char *first_line(const char *path, char *out, size_t size)
{
    FILE *f = fopen(path, "re");
    out[0] = '\0';
    if (f) {
        if (!fgets(out, (int)size, f))
            out[0] = '\0';
        fclose(f);
    }
    out[strcspn(out, "\n")] = '\0';
    return out;
}

void doctor_cpu(doctor_report *r)
{
    hdl_errmsg why = {0};
    const hdl_ops *ops = hdl_ops_cpu(HDL_ISA_AUTO, &why);
    if (!ops) {
        doctor_finding *f = doctor_add(r, DOCTOR_WARN, "CPU");
        SAY(f->found, "no AVX2; plain C kernels, many times slower");
        SAY(f->advice, "use a machine with AVX2 (2013 and later), or a GPU");
        return;
    }
    doctor_finding *f = doctor_add(r, DOCTOR_OK, "CPU");
    SAY(f->found, "kernels %s", ops->name);
    if (!hdl_ops_cpu(HDL_ISA_AVX512, &why))
        SAY(f->found, "kernels %s (AVX-512 with BF16 and VNNI would be faster)", ops->name);
}

void doctor_gpu(doctor_report *r)
{
    char line[256];
    glob_t nodes = {0};
    bool wants_gpu = r->config->device != HDL_DEVICE_CPU;
    first_line("/proc/driver/nvidia/version", line, sizeof(line));
    size_t n = glob("/dev/nvidia[0-9]*", 0, NULL, &nodes) == 0 ? nodes.gl_pathc : 0;
    globfree(&nodes);
    doctor_finding *f = doctor_add(r, DOCTOR_OK, "GPU");
    hdl_errmsg why = {0};
    if (line[0] && n > 0) {
        SAY(f->found, "%zu device%s; %.180s", n, n == 1 ? "" : "s", line);
        if (hdl_worker_check_device(r->config, &why) == HDL_OK)
            return;
        f->level = DOCTOR_FAIL;
        SAY(f->advice, "%.250s", why.text);
        return;
    }
    SAY(f->found, "%s", line[0] ? "the driver is loaded, but there is no /dev/nvidia*" : "none");
    if (!wants_gpu && !line[0])
        return;
    f->level = wants_gpu ? DOCTOR_FAIL : DOCTOR_WARN;
    SAY(f->advice, "%s",
        line[0] ? "give this process the devices (container runtime, DeviceAllow)"
                : "install NVIDIA's driver, or set worker.device: cpu");
}

void doctor_topology(doctor_report *r)
{
    int cpus[HDL_CPUS_MAX];
    hdl_errmsg why = {0};
    hdl_topo *topo = calloc(1, sizeof(*topo));
    size_t n = hdl_cpus_allowed(cpus, HDL_CPUS_MAX);
    if (topo && hdl_topo_load(topo, NULL, &why) == HDL_OK) {
        doctor_finding *f = doctor_add(r, DOCTOR_OK, "topology");
        SAY(f->found, "%zu CPUs on %u cores, %u NUMA node%s", n, topo->n_cores, topo->n_numa,
            topo->n_numa == 1 ? "" : "s");
        if (topo->n_numa > 1)
            SAY(f->advice, "run one worker for each node (--tp %u, or worker.cpus)", topo->n_numa);
    } else {
        doctor_finding *f = doctor_add(r, DOCTOR_WARN, "topology");
        SAY(f->found, "%zu CPUs; %.180s", n, why.text);
    }
    free(topo);
}

/* The cgroup's limit, or the machine's memory. */
void doctor_memory(doctor_report *r)
{
    struct sysinfo info;
    char line[64], total[HDL_UNITS_TEXT_BYTES], limit_text[HDL_UNITS_TEXT_BYTES];
    sysinfo(&info);
    uint64_t bytes = (uint64_t)info.totalram * info.mem_unit, limit = 0;
    first_line("/sys/fs/cgroup/memory.max", line, sizeof(line));
    hdl_format_size(bytes, total);
    doctor_finding *f = doctor_add(r, DOCTOR_OK, "memory");
    if (line[0] >= '0' && line[0] <= '9' && (limit = strtoull(line, NULL, 10)) < bytes)
        SAY(f->found, "%s, of which this control group may use %s", total,
            hdl_format_size(limit, limit_text));
    else
        SAY(f->found, "%s", total);
    if (info.totalswap > 0) {
        doctor_finding *swap = doctor_add(r, DOCTOR_WARN, "swap");
        SAY(swap->found, "swap is on; weights that are swapped out stop every request");
        SAY(swap->advice, "swapoff -a, or MemorySwapMax=0 for the units");
    }
}

void doctor_huge_pages(doctor_report *r)
{
    char line[128];
    first_line("/sys/kernel/mm/transparent_hugepage/enabled", line, sizeof(line));
    bool off = strstr(line, "[never]") != NULL;
    doctor_finding *f = doctor_add(r, off ? DOCTOR_WARN : DOCTOR_OK, "huge pages");
    SAY(f->found, "transparent huge pages: %s", line[0] ? line : "the kernel has none");
    if (off)
        SAY(f->advice, "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled");
}

void doctor_shm(doctor_report *r)
{
    struct statvfs fs;
    char size[HDL_UNITS_TEXT_BYTES];
    if (statvfs("/dev/shm", &fs) != 0) {
        doctor_finding *f = doctor_add(r, DOCTOR_FAIL, "shared memory");
        SAY(f->found, "/dev/shm is missing; workers of one host talk through it");
        SAY(f->advice, "mount -t tmpfs tmpfs /dev/shm");
        return;
    }
    uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    bool small = bytes < SHM_WANTED_BYTES;
    doctor_finding *f = doctor_add(r, small ? DOCTOR_WARN : DOCTOR_OK, "shared memory");
    SAY(f->found, "%s free in /dev/shm", hdl_format_size(bytes, size));
    if (small)
        SAY(f->advice, "give the container more: an emptyDir with medium Memory at /dev/shm");
}

/* Only a group that spans hosts needs it. */
void doctor_ucx(doctor_report *r)
{
    char version[HDL_COLL_ADDRESS_BYTES];
    hdl_errmsg why = {0};
    const hdl_config *config = r->config;
    bool needed = config->collectives == HDL_COLLECTIVES_UCX;
    bool found = hdl_coll_ucx_version(version, &why) == HDL_OK;
    doctor_finding *f =
        doctor_add(r, !found && needed ? DOCTOR_FAIL : DOCTOR_OK, "collectives over hosts");
    if (found)
        SAY(f->found, "UCX %s, transports %.64s", version, config->coll_transports);
    else
        SAY(f->found, "no UCX; a group's workers must be on one host");
    if (!found && needed)
        SAY(f->advice, "%.200s", why.text);
}

void doctor_limits(doctor_report *r)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    bool few = files.rlim_cur < FILES_WANTED;
    doctor_finding *f = doctor_add(r, few ? DOCTOR_WARN : DOCTOR_OK, "open files");
    SAY(f->found, "at most %" PRIu64 "; each connection needs one", (uint64_t)files.rlim_cur);
    if (few)
        SAY(f->advice, "LimitNOFILE=65536 in the unit, or ulimit -n 65536");
}

/* Certificates and tokens depend on it, and logs of several hosts are laid side by side. */
void doctor_clock(doctor_report *r)
{
    struct timex t = {0};
    int state = adjtimex(&t);
    bool synced = state >= 0 && state != TIME_ERROR && !(t.status & STA_UNSYNC);
    doctor_finding *f = doctor_add(r, synced ? DOCTOR_OK : DOCTOR_WARN, "clock");
    SAY(f->found, synced ? "synchronised" : "not known to be synchronised");
    if (!synced)
        SAY(f->advice, "run chrony or systemd-timesyncd (in a container: on the host)");
}
