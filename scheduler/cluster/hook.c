/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler/cluster/hook.h"

#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/json_write.h"

enum { POLL_US = 20000, BODY_BYTES_MAX = 4096 };

static hdl_err wait_for(pid_t pid, const char *command, hdl_errmsg *why)
{
    hdl_time_us until = hdl_clock_now_us() + HDL_HOOK_TIMEOUT_S * HDL_SEC_US;
    int status = 0;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (hdl_clock_now_us() > until) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return hdl_fail(HDL_TIMEOUT, why, "%s took over %d s and was killed", command,
                            HDL_HOOK_TIMEOUT_S);
        }
        hdl_clock_sleep_us(POLL_US);
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return HDL_OK;
    return hdl_fail(HDL_IO, why, "%s ended with %s %d", command,
                    WIFEXITED(status) ? "status" : "signal",
                    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

hdl_err hdl_hook_exec(const char *command, const hdl_hook_call *call, hdl_errmsg *why)
{
    char desired[16], replicas[16];
    snprintf(desired, sizeof desired, "%u", call->desired);
    snprintf(replicas, sizeof replicas, "%u", call->replicas);
    char *argv[] = {(char *)(uintptr_t)command, desired, replicas, (char *)(uintptr_t)call->reason,
                    NULL};
    posix_spawnattr_t attr;
    sigset_t none;
    pid_t pid = 0;
    sigemptyset(&none); /* our threads block signals; the command must not */
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigmask(&attr, &none);
    int rc = posix_spawn(&pid, command, NULL, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    if (rc != 0)
        return hdl_fail(HDL_IO, why, "%s cannot be run: %s; correct scale.exec", command,
                        strerror(rc));
    return wait_for(pid, command, why);
}

static size_t discard(char *data, size_t size, size_t n, void *arg)
{
    (void)data;
    (void)arg;
    return size * n;
}

static hdl_err post(CURL *curl, const char *url, const char *body, hdl_errmsg *why)
{
    long status = 0;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, discard);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    if (code != CURLE_OK)
        return hdl_fail(HDL_PEER, why, "%s: %s", url, curl_easy_strerror(code));
    if (status < 200 || status > 299)
        return hdl_fail(HDL_PEER, why, "%s answered with status %ld", url, status);
    return HDL_OK;
}

hdl_err hdl_hook_post(const char *url, const hdl_hook_call *call, hdl_errmsg *why)
{
    hdl_buf body;
    hdl_json_writer w;
    hdl_buf_init(&body, BODY_BYTES_MAX);
    hdl_jw_init(&w, &body);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_uint(&w, "desired", call->desired);
    hdl_jw_kv_uint(&w, "replicas", call->replicas);
    hdl_jw_kv_cstr(&w, "reason", call->reason);
    hdl_jw_end_object(&w);
    CURL *curl = curl_easy_init();
    if (curl)
        curl_easy_setopt(curl, CURLOPT_TIMEOUT,
                         (long)(call->timeout_s ? call->timeout_s : HDL_HOOK_TIMEOUT_S));
    hdl_err err = curl && hdl_buf_ok(&body) ? post(curl, url, hdl_buf_cstr(&body), why)
                                            : hdl_fail(HDL_NOMEM, why, "out of memory");
    curl_easy_cleanup(curl);
    hdl_buf_deinit(&body);
    return err;
}
