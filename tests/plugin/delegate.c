/* A TensorFlow Lite external delegate for tests: it claims the fully connected layers, one operator each, computes them with
 * TensorFlow Lite's own kernels, and does on demand what faults.h knows.
 *
 * The structures are the beginnings of those that TensorFlow Lite documents for delegates; `registration` is passed by value
 * and stands here whole.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "faults.h"

enum { OK = 0, ERROR = 1, FULLY_CONNECTED = 9 };

typedef struct { int size; int data[]; } int_array;
typedef struct context context;
typedef struct delegate delegate;

typedef struct {
    int_array *inputs, *outputs, *intermediates, *temporaries;
    void *user_data, *builtin_data;
    const void *custom_data;
    int custom_bytes;
    delegate *delegate;
    bool side_effect;
} node;

typedef struct {
    void *(*init)(context *, const char *, size_t);
    void (*free)(context *, void *);
    int (*prepare)(context *, node *);
    int (*invoke)(context *, node *);
    const char *(*profile)(const context *, const node *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *operator;
    void *(*async)(context *, node *);
    uint64_t inplace;
} registration;

struct context {
    size_t tensors_size;
    int (*plan)(context *, int_array **);
    void *tensors, *impl, *resize;
    void (*report)(context *, const char *, ...);
    void *add_tensors;
    int (*node)(context *, int, node **, registration **);
    int (*replace)(context *, registration, const int_array *, delegate *);
};

struct delegate {
    void *data;
    int (*prepare)(context *, delegate *);
    void *to_buffer, *from_buffer, *free_buffer;
    int64_t flags;
    void *builder;
};

typedef struct { delegate *delegate; int_array *nodes; int_array *inputs, *outputs; } claim;

/* A claimed operator: the one that was there before, and whose device computes it. */
typedef struct { node node; registration kernel; faults *faults; } claimed;

static void *claimed_init(context *context, const char *buffer, size_t bytes) {
    (void)bytes;
    const claim *claim = (const void *)buffer;
    claimed *made = calloc(1, sizeof *made);
    node *found;
    registration *kernel;
    if (context->node(context, claim->nodes->data[0], &found, &kernel) != OK) return NULL;
    made->node = *found;
    made->kernel = *kernel;
    made->faults = claim->delegate->data;
    return made;
}

static void claimed_free(context *context, void *made) { (void)context; free(made); }

static int claimed_prepare(context *context, node *node) {
    claimed *of = node->user_data;
    return of ? of->kernel.prepare(context, &of->node) : ERROR;
}

static int claimed_invoke(context *context, node *node) {
    claimed *of = node->user_data;
    of->faults->runs++;
    misbehave(of->faults);
    if (shows(of->faults, "error")) {
        context->report(context, "the device has timed out after %d ms", 42);
        return ERROR;
    }
    /* Nothing computed is as wrong as a number can be. */
    if (shows(of->faults, "wrong")) return OK;
    return of->kernel.invoke(context, &of->node);
}

static int prepare(context *context, delegate *delegate) {
    faults *faults = delegate->data;
    if (has_fault(faults, "prepare_crash")) crash();
    if (has_fault(faults, "prepare_hang")) hang();
    if (has_fault(faults, "prepare")) {
        context->report(context, "operator %d is not supported; compile the model again", 3);
        return ERROR;
    }
    if (has_fault(faults, "claims_nothing")) return OK;
    int_array *plan;
    if (context->plan(context, &plan) != OK) return ERROR;
    /* The plan changes with every claim. */
    int count = plan->size, nodes[count ? count : 1];
    memcpy(nodes, plan->data, sizeof(int) * (size_t)count);
    registration kernel = { .init = claimed_init, .free = claimed_free, .prepare = claimed_prepare,
                            .invoke = claimed_invoke, .custom_name = "TestDelegate", .version = 1 };
    for (int i = 0; i < count; i++) {
        node *node;
        registration *found;
        if (context->node(context, nodes[i], &node, &found) != OK) return ERROR;
        if (found->builtin_code != FULLY_CONNECTED) continue;
        struct { int size; int data[1]; } one = { 1, { nodes[i] } };
        if (context->replace(context, kernel, (const int_array *)&one, delegate) != OK) return ERROR;
        if (has_fault(faults, "claims_part")) break;
    }
    return OK;
}

delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                                        void (*report_error)(const char *)) {
    faults *made = calloc(1, sizeof *made);
    made->at_run = 1;
    for (size_t i = 0; i < count; i++) {
        if (!take_option(made, keys[i], values[i])) {
            char text[256];
            snprintf(text, sizeof text, "unknown option %s; known are fault, at_run, mark", keys[i]);
            report_error(text);
            return NULL;
        }
    }
    begin(made);
    if (has_fault(made, "silent")) return NULL;
    if (has_fault(made, "create")) {
        report_error("the device is busy; end the other program");
        return NULL;
    }
    if (has_fault(made, "create_crash")) crash();
    if (has_fault(made, "create_hang")) hang();
    delegate *of = calloc(1, sizeof *of);
    of->data = made;
    of->prepare = prepare;
    return of;
}

void tflite_plugin_destroy_delegate(delegate *of) {
    free(of->data);
    free(of);
}
