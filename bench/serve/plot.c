/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/serve/plot.h"

#include <math.h>

enum { WIDTH = 960, HEIGHT = 300, LEFT = 60, TOP = 46, PANEL = 300, PLOT_W = 220, PLOT_H = 190 };

/* One line of a panel. */
typedef struct series {
    const char *name, *colour;
    double (*value)(const hdl_load_figures *f);
} series;

typedef struct panel {
    const char *title;
    series lines[2];
    size_t n_lines;
} panel;

static double output(const hdl_load_figures *f) { return f->output_per_s; }
static double ttft(const hdl_load_figures *f) { return f->ttft.median; }
static double ttft99(const hdl_load_figures *f) { return f->ttft.p99; }
static double itl(const hdl_load_figures *f) { return f->itl.median; }
static double itl99(const hdl_load_figures *f) { return f->itl.p99; }

#define BLUE   "#2f6fb3"
#define ORANGE "#c8641e"
static const panel panels[] = {
    {"output tokens/s", {{"all requests", BLUE, output}}, 1},
    {"time to first token, ms", {{"median", BLUE, ttft}, {"p99", ORANGE, ttft99}}, 2},
    {"inter-token latency, ms", {{"median", BLUE, itl}, {"p99", ORANGE, itl99}}, 2},
};

/* 1, 2 or 5 times a power of ten, at least v. */
static double round_up(double v)
{
    double unit = pow(10, floor(log10(fmax(v, 1e-9))));
    const double steps[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (steps[i] * unit >= v)
            return steps[i] * unit;
    return 10 * unit;
}

static double x_of(const hdl_load_plot *p, size_t i)
{
    return p->n < 2 ? PLOT_W / 2.0 : (double)i * PLOT_W / (double)(p->n - 1);
}

static void draw_axes(hdl_buf *out, const hdl_load_plot *p, const panel *pan, double top)
{
    hdl_buf_printf(out, "<text x='0' y='-12' font-weight='bold'>%s</text>\n", pan->title);
    for (int i = 0; i <= 4; i++) {
        double y = PLOT_H - PLOT_H * i / 4.0;
        hdl_buf_printf(out,
                       "<line x1='0' x2='%d' y1='%.1f' y2='%.1f' stroke='#888' "
                       "stroke-opacity='.35'/><text x='-6' y='%.1f' text-anchor='end'>%g</text>\n",
                       PLOT_W, y, y, y + 4, top * i / 4);
    }
    for (size_t i = 0; i < p->n; i++)
        hdl_buf_printf(out, "<text x='%.1f' y='%d' text-anchor='middle'>%g</text>\n", x_of(p, i),
                       PLOT_H + 18, p->rows[i].at);
    hdl_buf_printf(out, "<text x='%d' y='%d' text-anchor='middle'>%s</text>\n", PLOT_W / 2,
                   PLOT_H + 36, p->axis);
}

static void draw_line(hdl_buf *out, const hdl_load_plot *p, const series *s, double top)
{
    hdl_buf_printf(out, "<polyline fill='none' stroke='%s' stroke-width='2' points='", s->colour);
    for (size_t i = 0; i < p->n; i++)
        hdl_buf_printf(out, "%.1f,%.1f ", x_of(p, i),
                       PLOT_H - PLOT_H * s->value(&p->rows[i].figures) / top);
    hdl_buf_puts(out, "'/>\n");
    for (size_t i = 0; i < p->n; i++)
        hdl_buf_printf(out, "<circle r='3' fill='%s' cx='%.1f' cy='%.1f'/>\n", s->colour,
                       x_of(p, i), PLOT_H - PLOT_H * s->value(&p->rows[i].figures) / top);
}

static void draw_panel(hdl_buf *out, const hdl_load_plot *p, const panel *pan, size_t idx)
{
    double most = 0;
    for (size_t l = 0; l < pan->n_lines; l++)
        for (size_t i = 0; i < p->n; i++)
            most = fmax(most, pan->lines[l].value(&p->rows[i].figures));
    double top = round_up(most);
    hdl_buf_printf(out, "<g transform='translate(%zu %d)'>\n", LEFT + idx * PANEL, TOP + 20);
    draw_axes(out, p, pan, top);
    for (size_t l = 0; l < pan->n_lines; l++) {
        draw_line(out, p, &pan->lines[l], top);
        if (pan->n_lines > 1)
            hdl_buf_printf(out, "<text x='%zu' y='10' fill='%s'>%s</text>\n", 8 + l * 60,
                           pan->lines[l].colour, pan->lines[l].name);
    }
    hdl_buf_puts(out, "</g>\n");
}

/* Titles come from the command line: markup in them stays text. */
static void put_escaped(hdl_buf *out, const char *text)
{
    for (; *text; text++) {
        const char *as = *text == '<' ? "&lt;" : *text == '&' ? "&amp;" : NULL;
        if (as)
            hdl_buf_puts(out, as);
        else
            hdl_buf_append(out, text, 1);
    }
}

hdl_err hdl_load_svg(hdl_buf *out, const hdl_load_plot *plot)
{
    hdl_buf_printf(out,
                   "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' "
                   "viewBox='0 0 %d %d' font-family='sans-serif' font-size='11'>\n"
                   "<rect width='100%%' height='100%%' fill='#fff'/>\n"
                   "<text x='%d' y='22' font-size='14'>",
                   WIDTH, HEIGHT, WIDTH, HEIGHT, LEFT - 40);
    put_escaped(out, plot->title);
    hdl_buf_puts(out, "</text>\n");
    for (size_t i = 0; i < sizeof(panels) / sizeof(panels[0]); i++)
        draw_panel(out, plot, &panels[i], i);
    return hdl_buf_puts(out, "</svg>\n");
}
