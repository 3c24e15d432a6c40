/* Pages: the frame, with its marks filled in. */
#include "runtime/page.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "runtime/page_impl.h"

/* What the build embeds (cmake/DprEmbed.cmake). */
extern const unsigned char dpr_page_frame_html[];
extern const size_t dpr_page_frame_html_size;
extern const unsigned char dpr_page_style_css[];
extern const size_t dpr_page_style_css_size;
extern const unsigned char dpr_page_model_js[];
extern const size_t dpr_page_model_js_size;
extern const unsigned char dpr_page_looks_js[];
extern const size_t dpr_page_looks_js_size;
extern const unsigned char dpr_page_timeline_js[];
extern const size_t dpr_page_timeline_js_size;
extern const unsigned char dpr_page_panels_js[];
extern const size_t dpr_page_panels_js_size;
extern const unsigned char dpr_page_main_js[];
extern const size_t dpr_page_main_js_size;

typedef struct writer {
    const dpr_run_t *run;
    const dpr_run_analysis_t *analysis;
    FILE *out;
} writer_t;

static void put_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            fputc(*text, out);
        }
    }
}

/* ---- The marks ---- */

static dpr_status_t put_title(const writer_t *w)
{
    put_escaped(w->out, w->run->schedule);
    fprintf(w->out, ", %d ranks, %d micro-batches", w->run->graph->ranks,
            w->run->graph->micro_batches);
    return DPR_OK;
}

static dpr_status_t put_style(const writer_t *w)
{
    fwrite(dpr_page_style_css, 1, dpr_page_style_css_size, w->out);
    return DPR_OK;
}

static dpr_status_t put_data(const writer_t *w)
{
    return page_print_data(w->run, w->analysis, w->out);
}

static dpr_status_t put_script(const writer_t *w)
{
    fwrite(dpr_page_model_js, 1, dpr_page_model_js_size, w->out);
    fwrite(dpr_page_looks_js, 1, dpr_page_looks_js_size, w->out);
    fwrite(dpr_page_timeline_js, 1, dpr_page_timeline_js_size, w->out);
    fwrite(dpr_page_panels_js, 1, dpr_page_panels_js_size, w->out);
    fwrite(dpr_page_main_js, 1, dpr_page_main_js_size, w->out);
    return DPR_OK;
}

static const struct {
    const char *name;
    dpr_status_t (*put)(const writer_t *w);
} marks[] = {
    {"@TITLE@", put_title}, {"@STYLE@", put_style}, {"@DATA@", put_data}, {"@SCRIPT@", put_script}};

enum { MARKS = sizeof marks / sizeof marks[0] };

/* ---- The frame ---- */

/* Puts what stands for the mark at `at`, if one does; *length becomes the mark's, or 0. */
static dpr_status_t put_mark(const writer_t *w, const char *at, size_t left, size_t *length)
{
    *length = 0;
    for (int i = 0; i < MARKS; i++) {
        const size_t size = strlen(marks[i].name);
        if (size <= left && memcmp(at, marks[i].name, size) == 0) {
            *length = size;
            return marks[i].put(w);
        }
    }
    return DPR_OK;
}

static dpr_status_t put_frame(const writer_t *w)
{
    const char *at = (const char *)dpr_page_frame_html;
    const char *end = at + dpr_page_frame_html_size;
    while (at < end) {
        const char *mark = memchr(at, '@', (size_t)(end - at));
        const char *stop = mark != NULL ? mark : end;
        fwrite(at, 1, (size_t)(stop - at), w->out);
        at = stop;
        if (at < end) {
            size_t length;
            DPR_TRY(put_mark(w, at, (size_t)(end - at), &length));
            assert(length > 0); /* the frame has no other "@" */
            at += length;
        }
    }
    return ferror(w->out) ? dpr_fail(DPR_ERR_IO, "cannot write the page: %s", strerror(errno))
                          : DPR_OK;
}

dpr_status_t dpr_page_print(const dpr_run_t *run, FILE *out)
{
    dpr_run_analysis_t analysis;
    DPR_TRY(dpr_run_analyse(run, &analysis));
    const writer_t writer = {.run = run, .analysis = &analysis, .out = out};
    const dpr_status_t status = put_frame(&writer);
    dpr_run_analysis_free(&analysis);
    return status;
}

dpr_status_t dpr_page_write(const dpr_run_t *run, const char *path)
{
    DPR_TRY(dpr_run_check(run)); /* before there is a file */
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return dpr_fail(DPR_ERR_IO, "cannot write the page to %s: %s", path, strerror(errno));
    }
    dpr_status_t status = dpr_page_print(run, out);
    if (fclose(out) != 0 && status == DPR_OK) {
        status = dpr_fail(DPR_ERR_IO, "cannot write the page to %s: %s", path, strerror(errno));
    }
    return status;
}
