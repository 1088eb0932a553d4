"""Writes a tiny Qwen2 model with random weights and a real Qwen2.5 tokenizer: 2 layers of width 64, about 25 MB.

The output is nonsense, but it is served by a real llama.cpp server with its framing, role chunk and connection handling.

    make_model.py TOKENIZER_FOLDER OUT.gguf
"""

import json
import pathlib
import sys

import gguf
import numpy

LAYERS, WIDTH, HEADS, FEED_FORWARD, CONTEXT = 2, 64, 4, 128, 16384

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def read_tokenizer(folder):
    """The tokens and their types by id, and the merges, from a Hugging Face tokenizer.json."""
    file = next(iter(sorted(pathlib.Path(folder).rglob("tokenizer.json"))), None)
    if file is None:
        sys.exit(f"{folder} has no tokenizer.json")
    tokenizer = json.loads(file.read_text(encoding="utf-8"))
    tokens = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    kinds = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
    count = max(tokens) + 1
    for index in range(count):
        if index not in tokens:
            tokens[index], kinds[index] = f"[PAD{index}]", gguf.TokenType.UNUSED
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    order = range(count)
    return [tokens[index] for index in order], [int(kinds[index]) for index in order], merges


def write_header(writer, tokens, kinds, merges):
    writer.add_name("tiny random Qwen2")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_freq_base(1000000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_pad_token_id(tokens.index("<|endoftext|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def write_weights(writer, vocabulary):
    # Seeded, so that the model is reproducible.
    random = numpy.random.default_rng(0)

    def matrix(name, *shape):
        writer.add_tensor(name, (random.standard_normal(shape) * 0.02).astype(numpy.float16))

    def vector(name, value):
        writer.add_tensor(name, numpy.full(WIDTH, value, numpy.float32))

    matrix("token_embd.weight", vocabulary, WIDTH)
    vector("output_norm.weight", 1.0)
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        vector(f"{block}.attn_norm.weight", 1.0)
        vector(f"{block}.ffn_norm.weight", 1.0)
        for part in ("attn_q", "attn_k", "attn_v"):
            matrix(f"{block}.{part}.weight", WIDTH, WIDTH)
            vector(f"{block}.{part}.bias", 0.0)
        matrix(f"{block}.attn_output.weight", WIDTH, WIDTH)
        matrix(f"{block}.ffn_gate.weight", FEED_FORWARD, WIDTH)
        matrix(f"{block}.ffn_up.weight", FEED_FORWARD, WIDTH)
        matrix(f"{block}.ffn_down.weight", WIDTH, FEED_FORWARD)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: make_model.py TOKENIZER_FOLDER OUT.gguf")
    tokens, kinds, merges = read_tokenizer(sys.argv[1])
    writer = gguf.GGUFWriter(sys.argv[2], "qwen2")
    write_header(writer, tokens, kinds, merges)
    write_weights(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
