/* SPDX-License-Identifier: Apache-2.0 */
/* heddle inspect: what a model is and what each rank of a layout would hold, from config.json
 * alone. */
#include <stdio.h>
#include <string.h>

#include <heddle/config.h>
#include <heddle/model.h>

#include "base/json_write.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/engine_options.h"

static const hdl_arg_opt inspect_opts[] = {
    {.name = "json", .doc = "one JSON document instead of tables"},
    {.name = "k8s", .doc = "the resources of a worker's container, as YAML for deploy/k8s"},
    CLI_ENGINE_OPTIONS,
};

static const hdl_args_spec inspect_spec = {
    .command = "heddle inspect",
    .usage = "MODEL [options]",
    .about =
        "Says what a model is, how many bytes each rank of a layout holds, and what a token of "
        "context costs. config.json alone is enough; where the weights are, their own types "
        "count. Refuses what heddle cannot run, with the reason.",
    .opts = inspect_opts,
    .opts_count = HDL_ARRAY_LEN(inspect_opts),
    .positionals_min = 1,
    .positionals_max = 1,
    .examples = "heddle inspect deploy/demo-model\tthe bundled model on one rank\n"
                "heddle inspect MODEL --tp 8 --ep 8 --weights q8\tshares of eight ranks\n"
                "heddle inspect MODEL --tp 2 --kv-bytes 16GiB --k8s\twhat a pod must ask for\n",
};

/* One model under one layout. */
typedef struct inspection {
    hdl_model_desc desc;
    hdl_layout layout;
    hdl_wformat format;
    hdl_model_params params;
    hdl_kv_type kv_type;
    uint64_t kv_bytes_per_token;
    uint64_t kv_bytes; /* of each rank, as configured; 0: not said */
    int head_screen;   /* hdl_head_screen */
    bool on_gpu;       /* --device cuda */
    bool has_files;    /* the weights are there: stored is filled in */
    hdl_model_stored stored;
} inspection;

static hdl_wformat format_of(int choice)
{
    switch ((hdl_weights_choice)choice) {
    case HDL_WEIGHTS_F32: return HDL_WFORMAT_F32;
    case HDL_WEIGHTS_BF16: return HDL_WFORMAT_BF16;
    case HDL_WEIGHTS_Q8: return HDL_WFORMAT_Q8;
    case HDL_WEIGHTS_Q4: return HDL_WFORMAT_Q4;
    case HDL_WEIGHTS_AUTO: break;
    }
    return HDL_WFORMAT_COUNT;
}

static uint64_t rank_kv_bytes(const inspection *in, const hdl_shard_bytes *bytes)
{
    uint64_t one = bytes->kv_bytes_per_token * in->desc.max_len + bytes->kv_bytes_fixed;
    return in->kv_bytes != 0 ? in->kv_bytes : one;
}

/* screen_bytes: what is made here. */
static hdl_shard_bytes bytes_of(const inspection *in, uint32_t rank)
{
    hdl_shard shard = hdl_shard_of(&in->desc, &in->layout, rank);
    hdl_shard_bytes bytes = in->has_files ? in->stored.ranks[rank]
                                          : hdl_shard_count_bytes(&in->desc, &shard, in->format);
    bytes.screen_bytes = in->on_gpu ? 0 : hdl_shard_screen_bytes(&bytes, in->head_screen);
    return bytes;
}

static void json_encodings(const inspection *in, hdl_json_writer *w)
{
    hdl_jw_key(w, "stored_bytes");
    hdl_jw_begin_object(w);
    for (hdl_enc e = 0; e < HDL_ENC_COUNT; e++)
        if (in->stored.encoding_bytes[e] > 0)
            hdl_jw_kv_uint(w, hdl_enc_name(e), in->stored.encoding_bytes[e]);
    hdl_jw_end_object(w);
}

static int print_json(const inspection *in)
{
    hdl_buf out;
    hdl_json_writer w;
    hdl_buf_init(&out, 1 << 20);
    hdl_jw_init(&w, &out);
    hdl_jw_begin_object(&w);
    hdl_jw_kv_cstr(&w, "architecture", in->desc.arch);
    hdl_jw_kv_uint(&w, "params_total", in->params.total);
    hdl_jw_kv_uint(&w, "params_active", in->params.active);
    hdl_jw_kv_uint(&w, "params_published_total", in->params.published);
    hdl_jw_kv_uint(&w, "params_embedding", in->params.embedding);
    hdl_jw_kv_uint(&w, "params_head", in->params.head);
    hdl_jw_kv_uint(&w, "params_active_without_embedding", in->params.active - in->params.embedding);
    hdl_jw_kv_uint(&w, "params_active_without_vocabulary",
                   in->params.active - in->params.embedding - in->params.head);
    hdl_jw_kv_uint(&w, "layers", in->desc.n_layers);
    hdl_jw_kv_uint(&w, "max_len", in->desc.max_len);
    hdl_jw_kv_uint(&w, "kv_bytes_per_token", in->kv_bytes_per_token);
    hdl_jw_kv_uint(&w, "kv_bytes_fixed", hdl_model_kv_bytes_fixed(&in->desc));
    if (in->has_files)
        json_encodings(in, &w);
    hdl_jw_key(&w, "ranks");
    hdl_jw_begin_array(&w);
    for (uint32_t rank = 0; rank < hdl_layout_ranks(&in->layout); rank++) {
        hdl_shard_bytes bytes = bytes_of(in, rank);
        hdl_jw_begin_object(&w);
        hdl_jw_kv_uint(&w, "rank", rank);
        hdl_jw_kv_uint(&w, "weight_bytes", bytes.weight_bytes);
        hdl_jw_kv_uint(&w, "head_screen_bytes", bytes.screen_bytes);
        hdl_jw_kv_uint(&w, "mapped_bytes", bytes.mapped_bytes);
        hdl_jw_kv_uint(&w, "kv_bytes", rank_kv_bytes(in, &bytes));
        hdl_jw_kv_uint(&w, "kv_bytes_per_token", bytes.kv_bytes_per_token);
        hdl_jw_end_object(&w);
    }
    hdl_jw_end_array(&w);
    hdl_jw_end_object(&w);
    hdl_buf_puts(&out, "\n");
    int rc = cli_print(&out);
    hdl_buf_deinit(&out);
    return rc;
}

static void print_encodings(const inspection *in)
{
    const char *before = "stored         ";
    for (hdl_enc e = 0; e < HDL_ENC_COUNT; e++) {
        char size[HDL_UNITS_TEXT_BYTES];
        if (in->stored.encoding_bytes[e] == 0)
            continue;
        printf("%s%s as %s", before, hdl_format_size(in->stored.encoding_bytes[e], size),
               hdl_enc_name(e));
        before = ", ";
    }
    puts("");
}

/* Publishers leave out of the active ones the embedding (gpt-oss), the head too (GLM-4.5), or
 * neither. */
static void print_params(const inspection *in)
{
    const hdl_model_params *p = &in->params;
    bool small = p->total < 1000000000;
    double unit = small ? 1e6 : 1e9;
    const char *name = small ? "million" : "billion";
    printf("parameters     %.2f %s, %.2f %s active per token", (double)p->total / unit, name,
           (double)p->active / unit, name);
    double without = (double)(p->active - p->embedding) / unit, head = (double)p->head / unit;
    if (p->embedding > 0)
        printf(" (%.2f without the embedding, %.2f without the head too)", without, without - head);
    printf("\n");
    if (p->published == p->total)
        return;
    bool tower = in->desc.tower.n_params > 0;
    printf("published      %.2f %s %s", (double)p->published / unit, name,
           tower ? "with the tower of images" : "of the language model");
    if (in->desc.n_mtp_layers > 0)
        printf("%s with %u %s for further tokens", tower ? " and" : "", in->desc.n_mtp_layers,
               in->desc.n_mtp_layers == 1 ? "layer" : "layers");
    printf(", not loaded; %.2f without vocabularies\n",
           (double)(p->published - p->vocabularies) / unit);
}

static void print_model(const inspection *in)
{
    const hdl_model_desc *d = &in->desc;
    printf("architecture   %s\n", d->arch);
    print_params(in);
    printf("layers         %u, hidden %u, %u query and %u KV heads of %u\n", d->n_layers, d->hidden,
           d->n_heads, d->n_kv_heads, d->head_dim);
    if (d->n_experts > 0)
        printf("experts        %u of %u inner, %u for each token\n", d->n_experts, d->moe_inter,
               d->topk);
    bool dense = false;
    for (uint32_t i = 0; i < d->n_layers; i++)
        dense = dense || d->layers[i].ffn == HDL_FFN_DENSE;
    if (dense)
        printf("dense layers   %u inner\n", d->inter);
    printf("vocabulary     %u, %s head\n", d->vocab, d->tied ? "tied" : "separate");
    printf("context        %u tokens, %llu bytes of KV each%s\n", d->max_len,
           (unsigned long long)in->kv_bytes_per_token,
           in->kv_type == HDL_KV_INT8  ? " in int8"
           : in->kv_type == HDL_KV_FP8 ? " in fp8"
                                       : "");
    char fixed[HDL_UNITS_TEXT_BYTES];
    if (hdl_model_kv_bytes_fixed(d) > 0)
        printf("besides        %s of windows and states for each sequence\n",
               hdl_format_size(hdl_model_kv_bytes_fixed(d), fixed));
    if (in->has_files)
        print_encodings(in);
}

static void print_ranks(const inspection *in)
{
    printf("\nlayout         tp %u, ep %u, weights %s\n", in->layout.tp, in->layout.ep,
           in->format == HDL_WFORMAT_COUNT ? "as stored" : hdl_wformat_info_of(in->format)->name);
    printf("%6s %14s %14s %16s %14s\n", "rank", "weights", "mapped", "KV a token",
           in->kv_bytes != 0 ? "KV" : "KV, one full");
    for (uint32_t rank = 0; rank < hdl_layout_ranks(&in->layout); rank++) {
        hdl_shard_bytes bytes = bytes_of(in, rank);
        char weights[HDL_UNITS_TEXT_BYTES], mapped[HDL_UNITS_TEXT_BYTES];
        char token[HDL_UNITS_TEXT_BYTES], kv[HDL_UNITS_TEXT_BYTES];
        printf("%6u %14s %14s %16s %14s\n", rank, hdl_format_size(bytes.weight_bytes, weights),
               hdl_format_size(bytes.mapped_bytes, mapped),
               hdl_format_size(bytes.kv_bytes_per_token, token),
               hdl_format_size(rank_kv_bytes(in, &bytes), kv));
    }
    char screen[HDL_UNITS_TEXT_BYTES];
    uint64_t screen_bytes = bytes_of(in, 0).screen_bytes;
    if (screen_bytes != 0)
        printf("\nhead screen: a copy of rank 0's head besides, %s (--head-screen)\n",
               hdl_format_size(screen_bytes, screen));
    puts("\nmapped: read in place from the page cache, which ranks of one machine share");
}

/* Everything but weights and KV: programs, activations of a step, gRPC. */
#define PROCESS_BYTES ((uint64_t)768 << 20)
#define GIB           ((uint64_t)1 << 30)

/* The largest rank's: all worker containers of a pod template are alike. What is mapped is counted
 * too: without it in memory every prompt reads its embeddings from the disk. */
static void print_k8s(const inspection *in)
{
    uint64_t device = 0, host = PROCESS_BYTES;
    for (uint32_t rank = 0; rank < hdl_layout_ranks(&in->layout); rank++) {
        hdl_shard_bytes bytes = bytes_of(in, rank);
        uint64_t held = bytes.weight_bytes + bytes.screen_bytes + rank_kv_bytes(in, &bytes);
        device = held > device ? held : device;
        host = PROCESS_BYTES + bytes.mapped_bytes;
    }
    uint64_t gib = (host + (in->on_gpu ? 0 : device) + GIB - 1) / GIB;
    printf("# %s, tp %u, ep %u: each of %u workers\n", in->desc.arch, in->layout.tp, in->layout.ep,
           hdl_layout_ranks(&in->layout));
    if (in->on_gpu)
        printf("# GPU memory: %.1f GiB and what the device's own software takes\n",
               (double)device / (double)GIB);
    printf("resources:\n  requests:\n    cpu: \"4\"\n    memory: %lluGi\n",
           (unsigned long long)gib);
    printf("  limits:\n    memory: %lluGi\n", (unsigned long long)gib);
    if (in->on_gpu)
        printf("    nvidia.com/gpu: 1\n");
}

static hdl_err look(inspection *in, const hdl_args *args, hdl_errmsg *why)
{
    hdl_cfg *cfg = NULL;
    hdl_config config;
    HDL_TRY(cli_config_open(&cfg, &config, args, why));
    in->layout = (hdl_layout){.tp = (uint32_t)config.tp,
                              .ep = (uint32_t)config.ep,
                              .pp = (uint32_t)config.pp,
                              .dp = (uint32_t)config.dp};
    in->format = format_of(config.model_weights);
    in->kv_bytes = config.kv_bytes;
    in->on_gpu = config.device != HDL_DEVICE_CPU;
    in->head_screen = config.head_screen;
    in->kv_type = hdl_kv_type_of(config.kv_type);
    uint32_t max_len = (uint32_t)config.model_max_len;
    hdl_cfg_close(cfg);

    HDL_TRY(hdl_model_desc_load(&in->desc, args->positionals[0], why));
    if (max_len != 0 && max_len < in->desc.max_len)
        in->desc.max_len = max_len;
    HDL_TRY(hdl_cache_groups_keep(&in->desc, in->kv_type, why));
    HDL_TRY(hdl_layout_check(&in->desc, &in->layout, why));
    hdl_err err = hdl_model_count_stored(&in->stored,
                                         &(hdl_model_count){.model_path = args->positionals[0],
                                                            .desc = &in->desc,
                                                            .layout = in->layout,
                                                            .format = in->format},
                                         why);
    if (err != HDL_OK && err != HDL_NOTFOUND)
        return err;
    in->has_files = err == HDL_OK;
    in->params = hdl_model_count_params(&in->desc);
    in->kv_bytes_per_token = hdl_model_kv_bytes_per_token(&in->desc);
    return HDL_OK;
}

int cli_inspect(char **argv)
{
    hdl_args args;
    int rc = cli_parse(&args, &inspect_spec, argv);
    if (rc >= 0)
        return rc;
    static inspection in; /* a description is some kilobytes */
    hdl_errmsg why = {0};
    hdl_err err = look(&in, &args, &why);
    if (err != HDL_OK)
        return cli_fail(err, &why);
    if (hdl_args_has(&args, "json"))
        return print_json(&in);
    if (hdl_args_has(&args, "k8s")) {
        print_k8s(&in);
        return CLI_OK;
    }
    print_model(&in);
    print_ranks(&in);
    return CLI_OK;
}
