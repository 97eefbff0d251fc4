// What llama.cpp says after every token, and how long it takes to say the first thing.
//
//   llama-logits MODEL.gguf THREADS CONTEXT f16|f32 < sequences > logits
//
// A sequence is its length and its token ids, all u32; out come the f32 logits of every position. The last argument is how
// keys and values are kept. The time from the start of the program to the first logits goes to stderr, and what llama.cpp
// says of the processor.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "llama.h"

static void quiet(ggml_log_level, const char *, void *) {}

int main(int argc, char ** argv) {
    using clock = std::chrono::steady_clock;
    const auto begin = clock::now();
    if (argc != 5) {
        fprintf(stderr, "usage: llama-logits MODEL.gguf THREADS CONTEXT f16|f32 < sequences > logits\n");
        return 2;
    }
    const int threads = atoi(argv[2]), context_tokens = atoi(argv[3]);
    llama_log_set(quiet, nullptr);
    llama_backend_init();
    llama_model * model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        fprintf(stderr, "%s: not a model\n", argv[1]);
        return 1;
    }
    const int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = context_tokens;
    params.n_threads = params.n_threads_batch = threads;
    params.type_k = params.type_v = strcmp(argv[4], "f32") == 0 ? GGML_TYPE_F32 : GGML_TYPE_F16;
    llama_context * context = llama_init_from_model(model, params);
    if (!context) {
        fprintf(stderr, "no context of %d tokens\n", context_tokens);
        return 1;
    }

    llama_batch batch = llama_batch_init(context_tokens, 0, 1);
    uint32_t length;
    bool is_first = true;
    while (fread(&length, sizeof(length), 1, stdin) == 1) {
        if (length == 0 || length > uint32_t(context_tokens) || fread(batch.token, sizeof(llama_token), length, stdin) != length) {
            fprintf(stderr, "a sequence of %u tokens is cut off or longer than the context\n", length);
            return 1;
        }
        llama_memory_clear(llama_get_memory(context), true);
        batch.n_tokens = length;
        for (uint32_t i = 0; i < length; i++) {
            batch.pos[i] = i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context, batch) != 0) {
            fprintf(stderr, "decode failed\n");
            return 1;
        }
        const float * logits = llama_get_logits(context);
        if (is_first) {
            const std::chrono::duration<double, std::milli> ms = clock::now() - begin;
            fprintf(stderr, "first_token_ms %.1f\nsystem %s\n", ms.count(), llama_print_system_info());
            is_first = false;
        }
        fwrite(logits, sizeof(float), size_t(vocab) * length, stdout);
    }
    return 0;
}
