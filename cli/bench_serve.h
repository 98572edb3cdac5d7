/* SPDX-License-Identifier: Apache-2.0 */
/* heddle bench serve, called by `heddle bench`. */
#pragma once

int cli_bench_serve(char **argv);
