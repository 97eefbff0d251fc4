/* The interface between outpost and a vendor's runtime: what a plug-in for RKNN, HailoRT, ACL and the like has to provide.
 *
 * A plug-in is a shared library with the functions below; those for segments and for language models may be left out, and one for
 * language models alone needs outpost_plugin_abi and those. It is loaded by a worker process, one per device, never by
 * the agent: it may crash, hang or leak, and the CPU gives the answer instead. One thread calls it, one call at a time.
 *
 * Errors are told in words: a text ended by nought in `error`, which has room for `error_bytes` (at least 256). Say what
 * failed and what to do next; outpost adds the stage. Print nothing: standard output and input are not yours.
 */
#ifndef OUTPOST_PLUGIN_H
#define OUTPOST_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#define OUTPOST_PLUGIN_ABI 1u

/* One model. Everything is the caller's and lives until outpost_plugin_create returns. */
typedef struct {
    const char *origin;      /* where the file comes from, for errors */
    const void *bytes;       /* content of the model's file */
    size_t bytes_count;
    size_t input_bytes;      /* of its one input tensor */
    size_t output_bytes;     /* of its one output tensor */
    const char *options;     /* "key=value" parted by commas, as configured; refuse a key that you do not know */
} outpost_model;

/* The version of this interface that the plug-in was made for: OUTPOST_PLUGIN_ABI. */
uint32_t outpost_plugin_abi(void);

/* Makes a model ready on the device; NULL and an error if that can't be done. */
void *outpost_plugin_create(const outpost_model *model, char *error, size_t error_bytes);

/* How many operators of the model run on the device, and how many it has. Not 0 where a device does the work: what claims
 * nothing is not used. */
void outpost_plugin_placement(void *runtime, uint32_t *claimed, uint32_t *total);

/* Computes; 0 if all is well. Both buffers have exactly the sizes of the model's tensors. */
int outpost_plugin_run(void *runtime, const void *input, void *output, char *error, size_t error_bytes);

/* Ends it. */
void outpost_plugin_destroy(void *runtime);

/* Segments: parts of a graph that outpost has itself, such as the language model's. Optional.
 *
 * Not 0 if operator `op` of the table below can be computed. `options` are those of the model. Without this function, no segments
 * come. A later function like it is no new version of the interface: what a library does not have is not asked for.
 *
 * A segment comes to outpost_plugin_create as any model does, and is computed by outpost_plugin_run: its input is all its
 * input tensors, one behind the other, its output all its output tensors. The rule for it is the same, too: it is used if the
 * numbers are those of the processor and it takes no longer. What is refused is computed by the processor, segment by segment.
 *
 * The file of a segment:
 *
 *     8 bytes    OUTPOST_SEGMENT_MAGIC
 *     8 bytes    how long the header is, little endian; it is filled up with blanks, so that the weights begin at a multiple of 64
 *     header     JSON
 *     weights    numbers, little endian; each tensor begins at a multiple of 64
 *
 * The header, with numbers of tensors in "inputs" and "outputs":
 *
 *     { "name": "student decode 0",
 *       "tensors": [ { "shape": [1, 128], "element": "f32" },
 *                    { "shape": [128], "element": "f32", "offset": 0 },      a constant: so many bytes behind the header's end
 *                    { "shape": [1, 128], "element": "f32" } ],
 *       "inputs": [0], "outputs": [2],                                       of the segment, in the order in which they come
 *       "nodes": [ { "op": "rms_norm", "name": "layers.0.attn_norm", "inputs": [0, 1], "outputs": [2],
 *                    "attributes": { "eps": 1e-5 } } ] }
 *
 * Nodes stand behind what they read. Shapes are fixed, all elements are f32 and lie row after row; what the processor keeps in
 * 8 or 4 bits is written out. Operators:
 *
 *     linear         x [T, n], w [m, n], perhaps b [m]       y [T, m]: y = x w^T + b
 *     gated_linear   x [T, n], g [m, n], u [m, n]            y [T, m]: y = silu(x g^T) * (x u^T), silu(z) = z / (1 + e^-z)
 *     rms_norm       x [T, n], w [n]; eps                    y [T, n]: y = x / sqrt(mean of x^2 in the row + eps) * w
 *     add            a, b of one shape                       y = a + b
 *     matmul         a [m, k], b [k, n]                      y [m, n]: y = a b
 *     conv           x [N, C, H, W], w [O, C / groups, h, w], b [O]; groups, stride_h, stride_w, dilation_h, dilation_w, pad_top,
 *                    pad_left                                y [N, O, ..]: as ONNX's Conv
 *     relu           x, and a nought                         y = x where that is above nought, else nought
 *     reshape        x                                       y: the same numbers in another shape
 *
 * Further operators may come with later versions of outpost: answer 0 for a name that you do not know.
 */
#define OUTPOST_SEGMENT_MAGIC "OUTPSEG1"
int outpost_plugin_takes(const char *op, const char *options);

/* Language runtimes: a whole language model that the vendor's runtime runs by itself (RKLLM and the like), its tokenizer and its
 * chat template included. Optional: all four functions or none. Such a model has a worker process to itself, which opens nothing
 * else. One thread calls, one call at a time; pieces may come from another one, as long as they come one after the other and
 * none comes when outpost_plugin_language_tell has returned.
 */
typedef struct {
    const char *path;        /* the model's file; read it as you like */
    const char *options;     /* "key=value" parted by commas, as configured; refuse a key that you do not know */
} outpost_language_model;

typedef struct {
    const char *role;        /* "system", "user" or "assistant" */
    const char *content;     /* UTF-8; marks of the template in it are plain text */
} outpost_message;

typedef struct {
    const outpost_message *messages; /* what was said so far, in order; the answer goes on behind them */
    size_t messages_count;
    uint32_t tokens_max;     /* longest answer */
    float temperature;       /* 0: always the likeliest token. What the runtime can't set for one answer may be left as it is */
    uint32_t top_k;          /* 0: all */
    float top_p;             /* 1: all */
    uint64_t seed;
} outpost_talk;

typedef struct {
    uint32_t prompt_tokens;  /* 0: not known */
    uint32_t answer_tokens;  /* 0: not known */
    uint32_t is_cut;         /* not 0: tokens_max or the end of the context came before the model's own end */
} outpost_told;

/* Is given a piece of the answer as soon as there is one: any bytes of UTF-8, also a part of a character. Each counts as
 * a token at least.
 * 0: nobody wants more; return from outpost_plugin_language_tell soon, within a token if you can. It blocks for microseconds. */
typedef int (*outpost_piece)(void *listener, const char *utf8, size_t bytes);

/* Loads a model; NULL and an error if that can't be done. May take a minute. */
void *outpost_plugin_language_load(const outpost_language_model *model, char *error, size_t error_bytes);

/* How many of the model's layers run on the device, and how many it has. */
void outpost_plugin_language_placement(void *model, uint32_t *claimed, uint32_t *total);

/* Answers, and returns when the answer is over; 0 if all is well, also where nobody wanted the rest; OUTPOST_TALK_REFUSED and a text
 * where nothing is wrong but this conversation, such as one that is longer than the context. The first piece has a minute,
 * each further one ten seconds: who takes longer is ended. Nothing of an answer may show in the next one. */
#define OUTPOST_TALK_REFUSED (-1)
int outpost_plugin_language_tell(void *model, const outpost_talk *talk, outpost_piece piece, void *listener, outpost_told *told,
                                 char *error, size_t error_bytes);

/* Ends it. */
void outpost_plugin_language_free(void *model);

#endif
