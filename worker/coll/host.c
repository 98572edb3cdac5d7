/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/coll/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <heddle/types.h>

#include "base/hash.h"

size_t hdl_address_bytes(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                          : sizeof(struct sockaddr_in);
}

hdl_err hdl_address_read(const char *text, struct sockaddr_storage *out, hdl_errmsg *why)
{
    char host[256];
    const char *colon = strrchr(text, ':'), *from = text, *to = colon;
    if (colon && text[0] == '[' && colon > text && colon[-1] == ']')
        from++, to--;
    size_t len = colon ? (size_t)(to - from) : 0;
    if (len == 0 || len >= sizeof(host) || colon[1] == '\0')
        return hdl_fail(HDL_INVALID, why,
                        "\"%.64s\" is no address; HOST:PORT is needed; correct it", text);
    memcpy(host, from, len);
    host[len] = '\0';
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int no = getaddrinfo(host, colon + 1, &hints, &found);
    if (no != 0)
        return hdl_fail(HDL_IO, why, "the address of %.64s is not known; %s; correct it", host,
                        gai_strerror(no));
    memset(out, 0, sizeof(*out));
    memcpy(out, found->ai_addr, hdl_min_size(sizeof(*out), found->ai_addrlen));
    freeaddrinfo(found);
    return HDL_OK;
}

bool hdl_address_print(const struct sockaddr_storage *address, char *text, size_t size)
{
    char host[INET6_ADDRSTRLEN];
    const struct sockaddr_in *v4 = (const void *)address;
    const struct sockaddr_in6 *v6 = (const void *)address;
    int n = -1;
    if (address->ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)))
        n = snprintf(text, size, "%s:%u", host, ntohs(v4->sin_port));
    else if (address->ss_family == AF_INET6 &&
             inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)))
        n = snprintf(text, size, "[%s]:%u", host, ntohs(v6->sin6_port));
    return n > 0 && (size_t)n < size;
}

static bool same_address(const struct sockaddr_storage *a, const struct sockaddr *b)
{
    if (!b || b->sa_family != a->ss_family)
        return false;
    if (a->ss_family == AF_INET)
        return memcmp(&((const struct sockaddr_in *)(const void *)a)->sin_addr,
                      &((const struct sockaddr_in *)(const void *)b)->sin_addr,
                      sizeof(struct in_addr)) == 0;
    return a->ss_family == AF_INET6 &&
           memcmp(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)(const void *)b)->sin6_addr,
                  sizeof(struct in6_addr)) == 0;
}

hdl_err hdl_address_interface(const struct sockaddr_storage *address, char name[IF_NAMESIZE],
                              hdl_errmsg *why)
{
    struct ifaddrs *all = NULL;
    char text[80] = "?";
    if (getifaddrs(&all) != 0)
        return hdl_fail(HDL_IO, why, "the network interfaces cannot be listed; %s; see dmesg",
                        strerror(errno));
    name[0] = '\0';
    for (const struct ifaddrs *i = all; i && !name[0]; i = i->ifa_next)
        if (same_address(address, i->ifa_addr))
            snprintf(name, IF_NAMESIZE, "%s", i->ifa_name);
    freeifaddrs(all);
    (void)hdl_address_print(address, text, sizeof(text));
    if (!name[0])
        return hdl_fail(HDL_INVALID, why,
                        "no network interface of this host has the address %s; peers could not "
                        "reach it; correct worker.coll_host",
                        text);
    return HDL_OK;
}

void hdl_address_set_port(struct sockaddr_storage *address, uint16_t port)
{
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)(void *)address)->sin_port = htons(port);
}

/* Connecting a datagram socket sends nothing; it asks the routes. */
hdl_err hdl_address_own(const char *towards, uint16_t port, struct sockaddr_storage *out,
                        hdl_errmsg *why)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(*out);
    if (towards[0] == '\0' || strncmp(towards, "unix:", 5) == 0)
        towards = "127.0.0.1:1";
    HDL_TRY(hdl_address_read(towards, &peer, why));
    int fd = socket(peer.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok = fd >= 0 &&
              connect(fd, (const void *)&peer, (socklen_t)hdl_address_bytes(&peer)) == 0 &&
              getsockname(fd, (void *)out, &len) == 0;
    int no = errno;
    if (fd >= 0)
        close(fd);
    if (!ok)
        return hdl_fail(HDL_IO, why, "no way to %.64s; %s; set worker.coll_host", towards,
                        strerror(no));
    hdl_address_set_port(out, port);
    return HDL_OK;
}

uint64_t hdl_host_machine(void)
{
    char boot[64] = "";
    struct stat shm;
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    bool ok = f && fgets(boot, sizeof(boot), f) && stat("/dev/shm", &shm) == 0;
    if (f)
        fclose(f);
    if (!ok)
        return 0;
    const uint64_t word = hdl_hash_bytes(boot, strlen(boot), (uint64_t)shm.st_dev);
    return word ? word : 1;
}
