/* A plug-in for tests: its "device" hands the input back, or computes a segment, and does on demand what faults.h knows. */
#include "../../src/accel/ffi/outpost_plugin.h"
#include "faults.h"
#include "segment.h"

typedef struct {
    faults faults;
    size_t input_bytes, output_bytes;
    segment *segment; /* none: it hands the input back */
} runtime;

uint32_t outpost_plugin_abi(void) { return OUTPOST_PLUGIN_ABI; }

void *outpost_plugin_create(const outpost_model *model, char *error, size_t error_bytes) {
    runtime *made = calloc(1, sizeof *made);
    char options[1024];
    snprintf(options, sizeof options, "%s", model->options);
    made->faults.at_run = 1;
    made->input_bytes = model->input_bytes;
    made->output_bytes = model->output_bytes;
    for (char *at = strtok(options, ","); at; at = strtok(NULL, ",")) {
        char *value = strchr(at, '=');
        if (value) *value++ = 0;
        if (!value || !take_option(&made->faults, at, value)) {
            snprintf(error, error_bytes, "unknown option %s; known are fault, at_run, mark", at);
            return NULL;
        }
    }
    begin(&made->faults);
    printf("what a vendor's code prints must not reach anybody's tensors\n");
    fflush(stdout);
    if (has_fault(&made->faults, "create")) {
        snprintf(error, error_bytes, "the device is busy; end the other program");
        return NULL;
    }
    if (has_fault(&made->faults, "create_slow")) sleep(CREATE_SLOW_S);
    if (has_fault(&made->faults, "create_crash")) crash();
    if (has_fault(&made->faults, "create_hang") || has_fault(&made->faults, "prepare_hang")) hang();
    if (has_fault(&made->faults, "prepare")) {
        snprintf(error, error_bytes, "operator 3 is not supported; compile the model again");
        return NULL;
    }
    made->segment = read_segment(model->bytes, model->bytes_count);
    if (made->segment) return made;
    if (model->bytes_count < 4 || memcmp(model->bytes, "SAME", 4)) {
        snprintf(error, error_bytes, "no model of this device");
        return NULL;
    }
    return made;
}

void outpost_plugin_placement(void *of, uint32_t *claimed, uint32_t *total) {
    const runtime *made = of;
    *total = made->segment ? made->segment->node_count : 7;
    *claimed = has_fault(&made->faults, "claims_nothing") ? 0 : has_fault(&made->faults, "claims_part") ? *total / 2 : *total;
}

int outpost_plugin_run(void *made, const void *input, void *output, char *error, size_t error_bytes) {
    runtime *of = made;
    of->faults.runs++;
    size_t count = of->input_bytes < of->output_bytes ? of->input_bytes : of->output_bytes;
    if (of->segment) compute_segment(of->segment, input, output);
    else memcpy(output, input, count);
    if (shows(&of->faults, "wrong")) memset(output, 0x55, count);
    int is_slow = shows(&of->faults, "slow") || (of->segment && of->segment->rows == 1 && shows(&of->faults, "slow_row"));
    if (of->segment && is_slow) usleep(SLOW_SEGMENT_US);
    misbehave(&of->faults);
    if (shows(&of->faults, "error")) {
        snprintf(error, error_bytes, "the device\nhas timed out");
        return 42;
    }
    return 0;
}

void outpost_plugin_destroy(void *of) {
    if (shows(&((runtime *)of)->faults, "end")) crash();
    make_file(((runtime *)of)->faults.ended);
    free(of);
}

int outpost_plugin_takes(const char *op, const char *options) {
    if (strstr(options, "fault=takes_nothing")) return 0;
    if (strstr(options, "fault=takes_linear")) return !strcmp(op, "linear");
    return knows_op(op);
}
