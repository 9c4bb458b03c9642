"""Encoder and decoder of the transformer (Vaswani et al., 2017)."""

from jaxtyping import Array, Bool, Float, Int

from research.nn.transformer import Transformer, TransformerSettings


class EncoderDecoder(TransformerSettings):
    """An encoder and a causal decoder that attends to its output; PyTorch's `nn.Transformer`.

    Parameters: `encoder` and `decoder`, each a `nn.transformer.Transformer`, whose settings these
    are. `causal` and `cross_attention` are the decoder's anyway and the encoder's never.
    """

    num_encoder_layers: int = 6
    num_decoder_layers: int = 6
    final_norm: bool = True
    scan_layers: bool = False
    remat: bool = False

    def setup(self) -> None:
        settings = self.settings() | {
            "final_norm": self.final_norm,
            "scan_layers": self.scan_layers,
            "remat": self.remat,
        }
        encoder = settings | {"causal": False, "cross_attention": False}
        decoder = settings | {"causal": True, "cross_attention": True}
        self.encoder = Transformer(num_layers=self.num_encoder_layers, **encoder)
        self.decoder = Transformer(num_layers=self.num_decoder_layers, **decoder)

    def __call__(
        self,
        source: Float[Array, "batch source_length features"],
        target: Float[Array, "batch length features"],
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        target_mask: Bool[Array, "batch length"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch length features"]:
        """The decoder's output; masks are true where a position may be attended to."""
        memory = self.encode(source, source_mask=source_mask, deterministic=deterministic)
        return self.decode(
            target,
            memory,
            source_mask=source_mask,
            target_mask=target_mask,
            deterministic=deterministic,
        )

    def encode(
        self,
        source: Float[Array, "batch source_length features"],
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        deterministic: bool = True,
    ) -> Float[Array, "batch source_length features"]:
        """The encoder's output."""
        return self.encoder(source, key_mask=source_mask, deterministic=deterministic)

    def decode(
        self,
        target: Float[Array, "batch length features"],
        memory: Float[Array, "batch source_length features"],
        *,
        source_mask: Bool[Array, "batch source_length"] | None = None,
        target_mask: Bool[Array, "batch length"] | None = None,
        positions: Int[Array, "#batch length"] | None = None,
        deterministic: bool = True,
        use_cache: bool = False,
    ) -> Float[Array, "batch length features"]:
        """The decoder's output; `positions` and `use_cache` as of
        `nn.attention.MultiHeadAttention`."""
        return self.decoder(
            target,
            memory=memory,
            key_mask=target_mask,
            memory_mask=source_mask,
            positions=positions,
            deterministic=deterministic,
            use_cache=use_cache,
        )
