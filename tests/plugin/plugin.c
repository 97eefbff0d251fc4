/* A plug-in for tests: its "device" hands the input back, and does on demand what a vendor's code does now and then.
 *
 * Options: fault=NAME, at_run=N (the fault shows from the run number N on, the first is 1), mark=FILE (created when the fault
 * shows, so that a process begun later is well).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../src/accel/ffi/outpost_plugin.h"

typedef struct {
    char fault[32];
    char mark[512];
    unsigned at_run, runs;
    size_t input_bytes, output_bytes;
} runtime;

uint32_t outpost_plugin_abi(void) { return OUTPOST_PLUGIN_ABI; }

/* Takes one "key=value"; 0 if the key is not known. */
static int option(runtime *of, char *text) {
    char *value = strchr(text, '=');
    if (!value) return 0;
    *value++ = 0;
    if (!strcmp(text, "fault")) snprintf(of->fault, sizeof of->fault, "%s", value);
    else if (!strcmp(text, "mark")) snprintf(of->mark, sizeof of->mark, "%s", value);
    else if (!strcmp(text, "at_run")) of->at_run = (unsigned)atoi(value);
    else return 0;
    return 1;
}

/* A raised signal would be forgiven by the handler that Rust brings for stack overflows; a real fault comes again. */
static void crash(void) { *(volatile int *)8 = 1; }

static int shows(runtime *of, const char *fault) {
    if (strcmp(of->fault, fault) || of->runs < of->at_run) return 0;
    if (!of->mark[0]) return 1;
    if (!access(of->mark, F_OK)) return 0;
    FILE *mark = fopen(of->mark, "w");
    if (mark) fclose(mark);
    return 1;
}

void *outpost_plugin_create(const outpost_model *model, char *error, size_t error_bytes) {
    runtime *made = calloc(1, sizeof *made);
    char options[1024];
    snprintf(options, sizeof options, "%s", model->options);
    made->at_run = 1;
    made->input_bytes = model->input_bytes;
    made->output_bytes = model->output_bytes;
    for (char *at = strtok(options, ","); at; at = strtok(NULL, ",")) {
        if (!option(made, at)) {
            snprintf(error, error_bytes, "unknown option %s; known are fault, at_run, mark", at);
            return NULL;
        }
    }
    printf("what a vendor's code prints must not reach anybody's tensors\n");
    fflush(stdout);
    if (!strcmp(made->fault, "create")) {
        snprintf(error, error_bytes, "the device is busy; end the other program");
        return NULL;
    }
    if (!strcmp(made->fault, "create_crash")) crash();
    if (!strcmp(made->fault, "prepare")) {
        snprintf(error, error_bytes, "operator 3 is not supported; compile the model again");
        return NULL;
    }
    if (model->bytes_count < 4 || memcmp(model->bytes, "SAME", 4)) {
        snprintf(error, error_bytes, "no model of this device");
        return NULL;
    }
    return made;
}

void outpost_plugin_placement(void *of, uint32_t *claimed, uint32_t *total) {
    const char *fault = ((runtime *)of)->fault;
    *total = 7;
    *claimed = !strcmp(fault, "claims_nothing") ? 0 : !strcmp(fault, "claims_part") ? 3 : 7;
}

int outpost_plugin_run(void *made, const void *input, void *output, char *error, size_t error_bytes) {
    runtime *of = made;
    of->runs++;
    size_t count = of->input_bytes < of->output_bytes ? of->input_bytes : of->output_bytes;
    memcpy(output, input, count);
    if (shows(of, "wrong")) memset(output, 0x55, count);
    if (shows(of, "slow")) usleep(20 * 1000);
    if (shows(of, "segv")) crash();
    if (shows(of, "hang")) for (;;) pause();
    if (shows(of, "leak")) {
        for (;;) {
            char *more = malloc(1 << 24);
            if (!more) abort();
            memset(more, 1, 1 << 24);
        }
    }
    if (shows(of, "error")) {
        snprintf(error, error_bytes, "the device\nhas timed out");
        return 42;
    }
    return 0;
}

void outpost_plugin_destroy(void *of) { free(of); }
