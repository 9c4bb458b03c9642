"""How the transformers' parameters are split over a mesh of devices: rules for
`parallelism.rules`, plain data that a config may take."""

Rule = tuple[str, tuple[str | None, ...]]


def transformer_rules(
    scan_layers: bool = False,
    grouped_queries: bool = False,
    tied: bool = True,
    embedding: bool = True,
) -> tuple[Rule, ...]:
    """Rules for every transformer: GPT, Llama, BERT, T5, translation, classifiers, ViT, PatchTST,
    Conformer.

    Over "tensor" they are Megatron's (Shoeybi et al., 2019): projections to heads and `up` are
    split by their outputs, `out` and `down` by their inputs, so that a branch needs one sum over
    devices; embeddings and logits by the vocabulary, which must be divisible. The other large
    dimension is split over "fsdp". What is in no rule, such as positions, is split over fsdp by
    default. `grouped_queries` is for models with `num_kv_heads`, `tied` False for those with a head
    of their own, and `embedding` False for those without tokens, such as ViT.
    """
    inside: list[Rule] = [
        ("(cross_)?attention/(qkv|key_value)/kernel", ("fsdp", None, "tensor", None)),
        ("(cross_)?attention/out/kernel", ("tensor", None, "fsdp")),
        ("mlp(_before|_after)?/(up|gate)/kernel", ("fsdp", "tensor")),
        ("mlp(_before|_after)?/down/kernel", ("tensor", "fsdp")),
    ]
    if grouped_queries:
        inside.append(("(cross_)?attention/query/kernel", ("fsdp", "tensor", None)))
    layer, stacked = (r"blocks/", (None,)) if scan_layers else (r"block_\d+/", ())
    rules = [(rf"(.*/)?{layer}{path}", (*stacked, *axes)) for path, axes in inside]
    if embedding:
        rules.append(("(.*/)?(token_|target_)?embedding/embedding", ("tensor", "fsdp")))
    if not tied:
        rules.append(("head/kernel", ("fsdp", "tensor")))
    return tuple(rules)
