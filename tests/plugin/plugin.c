/* A plug-in for tests: its "device" hands the input back, or computes a segment, and does on demand what faults.h knows. */
#include "../../src/accel/ffi/outpost_plugin.h"
#include "faults.h"
#include "segment.h"

typedef struct {
    faults faults;
    size_t input_bytes, output_bytes;
    segment *segment; /* none: it hands the input back */
} runtime;

static int take_options(faults *of, const char *told, char *error, size_t error_bytes) {
    char options[1024];
    snprintf(options, sizeof options, "%s", told);
    of->at_run = 1;
    for (char *at = strtok(options, ","); at; at = strtok(NULL, ",")) {
        char *value = strchr(at, '=');
        if (value) *value++ = 0;
        if (value && take_option(of, at, value)) continue;
        snprintf(error, error_bytes, "unknown option %s; known are fault, at_run, mark", at);
        return 0;
    }
    return 1;
}

uint32_t outpost_plugin_abi(void) { return OUTPOST_PLUGIN_ABI; }

void *outpost_plugin_create(const outpost_model *model, char *error, size_t error_bytes) {
    runtime *made = calloc(1, sizeof *made);
    made->input_bytes = model->input_bytes;
    made->output_bytes = model->output_bytes;
    if (!take_options(&made->faults, model->options, error, error_bytes)) return NULL;
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

#ifndef WITHOUT_LANGUAGE
/* A "language model": a file that begins with SAYS and goes on with the answer to everything, or one that begins with ECHO, whose
 * answer is what it was asked. It says three bytes at a time. */
typedef struct {
    faults faults;
    char text[4096];
} language;

enum { PIECE_BYTES = 3 };

void *outpost_plugin_language_load(const outpost_language_model *model, char *error, size_t error_bytes) {
    language *made = calloc(1, sizeof *made);
    if (!take_options(&made->faults, model->options, error, error_bytes)) return NULL;
    begin(&made->faults);
    if (has_fault(&made->faults, "create_crash")) crash();
    if (has_fault(&made->faults, "create_slow")) sleep(CREATE_SLOW_S);
    if (has_fault(&made->faults, "create")) {
        snprintf(error, error_bytes, "the device is busy; end the other program");
        return NULL;
    }
    FILE *file = fopen(model->path, "r");
    size_t count = file ? fread(made->text, 1, sizeof made->text - 1, file) : 0;
    if (file) fclose(file);
    if (count < 4 || (memcmp(made->text, "SAYS", 4) && memcmp(made->text, "ECHO", 4))) {
        snprintf(error, error_bytes, "no language model of this device");
        return NULL;
    }
    return made;
}

void outpost_plugin_language_placement(void *of, uint32_t *claimed, uint32_t *total) {
    *total = 28;
    *claimed = has_fault(&((language *)of)->faults, "claims_nothing") ? 0 : 28;
}

int outpost_plugin_language_tell(void *model, const outpost_talk *talk, outpost_piece piece, void *listener, outpost_told *told,
                                 char *error, size_t error_bytes) {
    language *of = model;
    char said[8192];
    of->faults.runs++;
    snprintf(said, sizeof said, "%s", of->text + 4);
    if (!memcmp(of->text, "ECHO", 4)) {
        size_t at = 0;
        for (size_t i = 0; i < talk->messages_count && at < sizeof said; i++)
            at += (size_t)snprintf(said + at, sizeof said - at, "%s: %s\n", talk->messages[i].role, talk->messages[i].content);
        if (at < sizeof said)
            snprintf(said + at, sizeof said - at, "%u tokens, temperature %.1f, top_k %u, top_p %.1f, seed %llu", talk->tokens_max,
                     talk->temperature, talk->top_k, talk->top_p, (unsigned long long)talk->seed);
    }
    if (shows(&of->faults, "refuse")) {
        snprintf(error, error_bytes, "the context has 16 tokens; ask a shorter question");
        return OUTPOST_TALK_REFUSED;
    }
    if (shows(&of->faults, "mute")) said[0] = 0;
    if (shows(&of->faults, "broken")) snprintf(said, sizeof said, "\xff\xfe");
    size_t length = strlen(said), at = 0;
    while (at < length) {
        if (told->answer_tokens >= talk->tokens_max) {
            told->is_cut = 1;
            break;
        }
        size_t count = length - at < PIECE_BYTES ? length - at : PIECE_BYTES;
        int go_on = piece(listener, said + at, count);
        at += count;
        told->answer_tokens++;
        if (told->answer_tokens == 2) {
            misbehave(&of->faults);
            if (shows(&of->faults, "error")) {
                snprintf(error, error_bytes, "the device\nhas timed out");
                return 42;
            }
        }
        /* A runtime that hears nothing: neither that nobody wants more, nor how long an answer may be. */
        if (shows(&of->faults, "endless")) {
            usleep(200);
            at = 0;
            told->answer_tokens = 3;
            continue;
        }
        if (shows(&of->faults, "slow_words")) usleep(50 * 1000);
        if (!go_on) {
            make_file(of->faults.ended);
            break;
        }
    }
    told->prompt_tokens = (uint32_t)talk->messages_count;
    return 0;
}

void outpost_plugin_language_free(void *of) { free(of); }
#endif
