/* Segments as outpost_plugin.h describes them, read and computed in plain C. Nothing is freed, and what is no segment ends it. */
#ifndef SEGMENT_H
#define SEGMENT_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* JSON: a value, its elements or members, the value behind it. */
typedef struct json {
    char kind; /* { [ " or 0 for a number */
    char key[64], text[64];
    double number;
    struct json *first, *next;
} json;

static const char *blanks(const char *at) { return at + strspn(at, " \t\r\n"); }

static const char *read_text(const char *at, char *into) {
    const char *end = strchr(at + 1, '"');
    size_t count = (size_t)(end - at - 1);
    if (count > 63) count = 63;
    memcpy(into, at + 1, count);
    into[count] = 0;
    return end + 1;
}

static const char *read_json(const char *at, json *into) {
    at = blanks(at);
    into->kind = *at == '{' || *at == '[' || *at == '"' ? *at : 0;
    if (into->kind == '"') return read_text(at, into->text);
    if (!into->kind) {
        char *end;
        into->number = strtod(at, &end);
        if (end == at) abort();
        return end;
    }
    json **last = &into->first;
    for (at = blanks(at + 1); *at != '}' && *at != ']'; at = blanks(at)) {
        json *one = *last = calloc(1, sizeof *one);
        last = &one->next;
        if (into->kind == '{') at = strchr(read_text(at, one->key), ':') + 1;
        at = blanks(read_json(at, one));
        if (*at == ',') at++;
    }
    return at + 1;
}

static const json *member(const json *of, const char *key) {
    const json *at = of->first;
    while (at && strcmp(at->key, key)) at = at->next;
    return at;
}

enum { TENSORS_MAX = 256, NODES_MAX = 64, SIDES_MAX = 16 };

typedef struct { size_t rows, cols; int shape[SIDES_MAX]; float *numbers; } tensor;
typedef struct { char op[64]; int inputs[SIDES_MAX], input_count, output; const json *attributes; } node;

typedef struct {
    tensor tensors[TENSORS_MAX];
    node nodes[NODES_MAX];
    int inputs[SIDES_MAX], outputs[SIDES_MAX];
    unsigned tensor_count, node_count, input_count, output_count;
    size_t rows; /* of its first input */
} segment;

static int read_numbers(const json *of, int *into) {
    int count = 0;
    for (const json *at = of->first; at && count < SIDES_MAX; at = at->next) into[count++] = (int)at->number;
    return count;
}

static int knows_op(const char *op) {
    const char *known[] = { "linear", "gated_linear", "rms_norm", "add", "matmul", "conv", "relu", "reshape" };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) if (!strcmp(op, known[i])) return 1;
    return 0;
}

/* None if the file is something else. */
static segment *read_segment(const void *file, size_t bytes) {
    const char *at = file;
    if (bytes < 16 || memcmp(at, OUTPOST_SEGMENT_MAGIC, 8)) return NULL;
    uint64_t header_bytes;
    memcpy(&header_bytes, at + 8, 8);
    if ((16 + header_bytes) % 64 || header_bytes > bytes) abort();
    char *text = calloc(1, header_bytes + 1);
    memcpy(text, at + 16, header_bytes);
    json header = { 0 };
    read_json(text, &header);
    segment *of = calloc(1, sizeof *of);
    for (const json *one = member(&header, "tensors")->first; one && of->tensor_count < TENSORS_MAX; one = one->next) {
        tensor *made = &of->tensors[of->tensor_count++];
        int rank = read_numbers(member(one, "shape"), made->shape);
        if (strcmp(member(one, "element")->text, "f32")) abort();
        made->rows = made->cols = 1;
        for (int i = 0; i < rank; i++) *(i + 1 < rank ? &made->rows : &made->cols) *= (size_t)made->shape[i];
        made->numbers = calloc(made->rows * made->cols, sizeof(float));
        const json *offset = member(one, "offset");
        if (offset) {
            size_t begin = 16 + header_bytes + (size_t)offset->number, count = made->rows * made->cols * sizeof(float);
            if (begin % 64 || begin + count > bytes) abort();
            memcpy(made->numbers, at + begin, count);
        }
    }
    of->input_count = (unsigned)read_numbers(member(&header, "inputs"), of->inputs);
    of->output_count = (unsigned)read_numbers(member(&header, "outputs"), of->outputs);
    of->rows = of->tensors[of->inputs[0]].rows;
    for (const json *one = member(&header, "nodes")->first; one && of->node_count < NODES_MAX; one = one->next) {
        node *made = &of->nodes[of->node_count++];
        memcpy(made->op, member(one, "op")->text, sizeof made->op);
        made->input_count = read_numbers(member(one, "inputs"), made->inputs);
        made->output = (int)member(one, "outputs")->first->number;
        made->attributes = member(one, "attributes");
    }
    return of;
}

static double attribute(const node *of, const char *key) {
    const json *found = member(of->attributes, key);
    if (!found) abort();
    return found->number;
}

static void conv(const node *n, const tensor *x, const tensor *w, const tensor *b, const tensor *y) {
    int groups = (int)attribute(n, "groups"), stride_h = (int)attribute(n, "stride_h"), stride_w = (int)attribute(n, "stride_w");
    int step_h = (int)attribute(n, "dilation_h"), step_w = (int)attribute(n, "dilation_w");
    int top = (int)attribute(n, "pad_top"), left = (int)attribute(n, "pad_left");
    const int *in = x->shape, *kernel = w->shape, *out = y->shape;
    float *to = y->numbers;
    for (int image = 0; image < out[0]; image++)
        for (int o = 0; o < out[1]; o++)
            for (int r = 0; r < out[2]; r++)
                for (int c = 0; c < out[3]; c++, to++) {
                    *to = b->numbers[o];
                    for (int i = 0; i < kernel[1]; i++)
                        for (int h = 0; h < kernel[2]; h++)
                            for (int v = 0; v < kernel[3]; v++) {
                                int channel = o / (out[1] / groups) * kernel[1] + i;
                                int row = r * stride_h + h * step_h - top, col = c * stride_w + v * step_w - left;
                                if (row < 0 || row >= in[2] || col < 0 || col >= in[3]) continue;
                                *to += w->numbers[((o * kernel[1] + i) * kernel[2] + h) * kernel[3] + v]
                                     * x->numbers[((image * in[1] + channel) * in[2] + row) * in[3] + col];
                            }
                }
}

/* Row `row` of x times row `at` of w. */
static float dot(const tensor *x, size_t row, const tensor *w, size_t at) {
    const float *a = x->numbers + row * x->cols, *b = w->numbers + at * w->cols;
    float sums[16] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + 16 <= x->cols; i += 16) for (size_t k = 0; k < 16; k++) sums[k] += a[i + k] * b[i + k];
    for (; i < x->cols; i++) sum += a[i] * b[i];
    for (size_t k = 0; k < 16; k++) sum += sums[k];
    return sum;
}

static void compute_node(const segment *of, const node *n) {
    const tensor *x = &of->tensors[n->inputs[0]], *w = n->input_count > 1 ? &of->tensors[n->inputs[1]] : NULL;
    const tensor *third = n->input_count > 2 ? &of->tensors[n->inputs[2]] : NULL, *y = &of->tensors[n->output];
    if (!strcmp(n->op, "conv")) {
        conv(n, x, w, third, y);
        return;
    }
    if (!strcmp(n->op, "reshape")) {
        memcpy(y->numbers, x->numbers, y->rows * y->cols * sizeof(float));
        return;
    }
    for (size_t row = 0; row < y->rows; row++) {
        float *out = y->numbers + row * y->cols, scale = 0;
        const float *in = x->numbers + row * x->cols;
        if (!strcmp(n->op, "rms_norm")) {
            for (size_t i = 0; i < x->cols; i++) scale += in[i] * in[i];
            scale = 1 / sqrtf(scale / (float)x->cols + (float)attribute(n, "eps"));
        }
        for (size_t i = 0; i < y->cols; i++) {
            if (!strcmp(n->op, "add")) out[i] = in[i] + w->numbers[row * y->cols + i];
            else if (!strcmp(n->op, "rms_norm")) out[i] = in[i] * scale * w->numbers[i];
            else if (!strcmp(n->op, "relu")) out[i] = in[i] > w->numbers[0] ? in[i] : w->numbers[0];
            else if (!strcmp(n->op, "matmul")) {
                out[i] = 0;
                for (size_t k = 0; k < x->cols; k++) out[i] += in[k] * w->numbers[k * y->cols + i];
            }
            else if (!strcmp(n->op, "linear")) out[i] = dot(x, row, w, i) + (third ? third->numbers[i] : 0);
            else if (!strcmp(n->op, "gated_linear")) {
                float gate = dot(x, row, w, i);
                out[i] = gate / (1 + expf(-gate)) * dot(x, row, third, i);
            } else abort();
        }
    }
}

static void compute_segment(const segment *of, const void *input, void *output) {
    const char *from = input;
    char *to = output;
    for (unsigned i = 0; i < of->input_count; i++) {
        const tensor *t = &of->tensors[of->inputs[i]];
        memcpy(t->numbers, from, t->rows * t->cols * sizeof(float));
        from += t->rows * t->cols * sizeof(float);
    }
    for (unsigned i = 0; i < of->node_count; i++) compute_node(of, &of->nodes[i]);
    for (unsigned i = 0; i < of->output_count; i++) {
        const tensor *t = &of->tensors[of->outputs[i]];
        memcpy(to, t->numbers, t->rows * t->cols * sizeof(float));
        to += t->rows * t->cols * sizeof(float);
    }
}

#endif
