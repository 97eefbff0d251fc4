/* The interface between outpost and a vendor's runtime: what a plug-in for RKNN, HailoRT, ACL and the like has to provide.
 *
 * A plug-in is a shared library with the five functions below. It is loaded by a worker process, one per device, never by
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

#endif
