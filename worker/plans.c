/* SPDX-License-Identifier: Apache-2.0 */
/* `numerics: fast`: how the matrices of a model meet the tokens of a step, chosen once they lie on
 * the device, so that no step has to choose (plugin.h: plan). */
#include "base/log.h"
#include "worker/worker_impl.h"

static hdl_err plan(const hdl_worker *w, const hdl_weight *weight, uint32_t n_tokens)
{
    if (!weight->data)
        return HDL_OK;
    return w->opts.plugin->plan(hdl_device_remote(w->device), weight, n_tokens);
}

/* What steps multiply as one matrix; experts and heads have kernels of their own. */
static hdl_err plan_layer(const hdl_worker *w, const hdl_layer *layer)
{
    const hdl_weight *all[] = {
        &layer->qkv,     &layer->o,    &layer->mla.a,          &layer->mla.q_b,    &layer->gdn.in,
        &layer->gate_up, &layer->down, &layer->shared_gate_up, &layer->shared_down};
    for (size_t i = 0; i < HDL_ARRAY_LEN(all); i++)
        HDL_TRY(plan(w, all[i], w->opts.step_tokens));
    return HDL_OK;
}

hdl_err hdl_plans_make(hdl_worker *w, hdl_errmsg *why)
{
    const hdl_plugin *plugin = w->opts.plugin;
    hdl_plugin_info info = {0};
    if (!plugin || !w->opts.fast)
        return HDL_OK;
    hdl_err err = plugin->info(hdl_device_remote(w->device), &info);
    for (uint32_t i = 0; err == HDL_OK && i < w->desc.n_layers; i++)
        err = plan_layer(w, &w->model.layers[i]);
    if (err == HDL_OK)
        err = plan(w, &w->model.lm_head, HDL_LOGIT_ROWS);
    if (err != HDL_OK)
        return hdl_fail(err, why,
                        "cannot choose how to multiply; %s; look at this worker's log, or say "
                        "--numerics exact",
                        hdl_err_text(err));
    HDL_LOG(INFO, LOAD, "numerics", "mode=fast by=\"%s\"", info.fast_by);
    return HDL_OK;
}
