"""Recurrent networks over sequences of any lengths: tanh, LSTM and GRU."""

from collections.abc import Callable, Mapping
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from flax.typing import Dtype, Initializer
from jax import lax
from jaxtyping import Array, Bool, Float

from research.nn.dropout import Dropout
from research.nn.initializers import symmetric_uniform

Cell = Literal["rnn", "lstm", "gru"]

State = tuple[Float[Array, "*layers batch hidden_dim"], ...]
"""The hidden state, and the cell's of an LSTM: (h,) or (h, c)."""


class Recurrent(nn.Module):
    """Stacked recurrent layers, each one way or both ways; PyTorch's `nn.RNN`, `nn.LSTM`, `nn.GRU`.

    `cell` "rnn" is Elman's with tanh (1990), "lstm" that of Hochreiter and Schmidhuber (1997) with
    forget gates, "gru" that of Cho et al. (2014), whose reset gate is after the product (Cudnn's
    and PyTorch's form). Parameters of layer l: `layer_l/input_kernel` (features, gates ·
    hidden_dim), `layer_l/hidden_kernel`, `layer_l/input_bias`, `layer_l/hidden_bias`, gates in the
    order i, f, g, o or r, z, n; the way back is `layer_l_reverse`. All are uniform in
    ±`init_scale`, by default 1 / √hidden_dim. Dropout is between layers, not in time.

    With a `memory_span` units remember for up to so many steps at first: hidden biases of the gates
    that keep the state are log U(1, memory_span - 1), and those of an LSTM's input gates the
    negative of that (Tallec and Ollivier, 2018); and hidden kernels are orthogonal, gate by gate.
    """

    hidden_dim: int
    cell: Cell = "lstm"
    num_layers: int = 1
    bidirectional: bool = False
    dropout_rate: float = 0.0
    init_scale: float | None = None
    memory_span: int | None = None
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length features"],
        mask: Bool[Array, "batch length"] | None = None,
        state: State | None = None,
        *,
        deterministic: bool = True,
    ) -> tuple[Float[Array, "batch length outputs"], State]:
        """The last layer's hidden state at each position, and the state of each layer after the
        last one, from `state` or zeros before the first.

        Positions where `mask` is false are passed over: their output is zero, and the state stays
        as it is. Both ways are side by side in the outputs, and one after the other in the state,
        (num_layers · directions, batch, hidden_dim).

        Raises ValueError for another `cell`, for a state of another shape, and for a `memory_span`
        of a cell without gates or below 3.
        """
        if self.cell not in _CELLS:
            raise ValueError(f"cell must be one of {list(_CELLS)}, got {self.cell!r}")
        if self.memory_span is not None and (self.cell == "rnn" or self.memory_span < 3):
            raise ValueError(
                f"memory_span={self.memory_span} of {self.cell!r}: must be at least 3, of a cell "
                "with gates"
            )
        directions = ("", "_reverse") if self.bidirectional else ("",)
        num_states = self.num_layers * len(directions)
        if state is not None:
            self._check_state(state, (num_states, len(x), self.hidden_dim))
        ends: list[State] = []
        for layer in range(self.num_layers):
            if layer > 0:
                x = Dropout(self.dropout_rate)(x, deterministic)
            outputs = []
            for direction in directions:
                one = RecurrentLayer(
                    self.hidden_dim,
                    self.cell,
                    reverse=bool(direction),
                    init_scale=self.init_scale,
                    memory_span=self.memory_span,
                    dtype=self.dtype,
                    param_dtype=self.param_dtype,
                    name=f"layer_{layer}{direction}",
                )
                before = None if state is None else tuple(part[len(ends)] for part in state)
                output, end = one(x, mask, before)
                outputs.append(output)
                ends.append(end)
            x = outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, -1)
        return x, tuple(jnp.stack(parts) for parts in zip(*ends, strict=True))

    def _check_state(self, state: State, shape: tuple[int, ...]) -> None:
        num_parts = 2 if self.cell == "lstm" else 1
        shapes = [part.shape for part in state]
        if shapes != [shape] * num_parts:
            raise ValueError(
                f"the state of this {self.cell} is {num_parts} array(s) of shape {shape}, got "
                f"{shapes}"
            )


class RecurrentLayer(nn.Module):
    """One layer, one way; see `Recurrent`."""

    hidden_dim: int
    cell: Cell = "lstm"
    reverse: bool = False
    init_scale: float | None = None
    memory_span: int | None = None
    dtype: Dtype | None = None
    param_dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length features"],
        mask: Bool[Array, "batch length"] | None = None,
        state: State | None = None,
    ) -> tuple[Float[Array, "batch length hidden_dim"], State]:
        """The hidden state at each position and the state after the last."""
        num_gates, step = _CELLS[self.cell]
        scale = self.hidden_dim**-0.5 if self.init_scale is None else self.init_scale
        init = kernel_init = bias_init = symmetric_uniform(scale)
        if self.memory_span is not None:
            kernel_init = _orthogonal_gates(num_gates)
            bias_init = _remembering(self.cell, self.memory_span, init)
        columns = num_gates * self.hidden_dim
        kernel, bias, hidden_kernel, hidden_bias = (
            self.param("input_kernel", init, (x.shape[-1], columns), self.param_dtype),
            self.param("input_bias", init, (columns,), self.param_dtype),
            self.param("hidden_kernel", kernel_init, (self.hidden_dim, columns), self.param_dtype),
            self.param("hidden_bias", bias_init, (columns,), self.param_dtype),
        )
        x, kernel, bias, hidden_kernel, hidden_bias = promote_dtype(
            x, kernel, bias, hidden_kernel, hidden_bias, dtype=self.dtype
        )
        zeros = jnp.zeros((len(x), self.hidden_dim), x.dtype)
        start: State = (zeros, zeros) if self.cell == "lstm" else (zeros,)
        if state is not None:
            start = tuple(part.astype(x.dtype) for part in state)
        length = x.shape[1]
        # All positions at once; on CPU a bias's gradient is fast over one axis only.
        inputs = (x.swapaxes(0, 1).reshape(-1, x.shape[-1]) @ kernel + bias).reshape(
            length, -1, columns
        )
        inside = None if mask is None else mask.swapaxes(0, 1)

        def advance(state: State, at: tuple[Array, Array | None]) -> tuple[State, Array]:
            now, is_inside = at
            after = step(state, now, lambda h: h @ hidden_kernel + hidden_bias)
            if is_inside is None:
                return after, after[0]
            kept = is_inside[:, None]
            after = tuple(jnp.where(kept, a, b) for a, b in zip(after, state, strict=True))
            return after, jnp.where(kept, after[0], 0)

        end, outputs = lax.scan(advance, start, (inputs, inside), reverse=self.reverse)
        return outputs.swapaxes(0, 1), end


def _orthogonal_gates(num_gates: int) -> Initializer:
    """An orthogonal matrix for each gate, side by side."""

    def kernels(rng: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
        one = (shape[0], shape[1] // num_gates)
        init = nn.initializers.orthogonal()
        return jnp.concatenate(
            [init(key, one, dtype) for key in jax.random.split(rng, num_gates)], 1
        )

    return kernels


def _remembering(cell: Cell, memory_span: int, init: Initializer) -> Initializer:
    """Biases whose gates keep the state for up to so many steps; the others by `init`."""
    num_gates, _ = _CELLS[cell]

    def biases(rng: Array, shape: tuple[int, ...], dtype: Dtype) -> Array:
        parts = jnp.split(jnp.asarray(init(rng, shape, dtype)), num_gates)
        kept = jnp.log(jax.random.uniform(rng, parts[1].shape, dtype, 1.0, memory_span - 1.0))
        parts[1] = kept  # an LSTM's forget gate, a GRU's update gate
        if cell == "lstm":
            parts[0] = -kept
        return jnp.concatenate(parts)

    return biases


Product = Callable[[Array], Array]


def _rnn(state: State, inputs: Array, hidden: Product) -> State:
    return (jnp.tanh(inputs + hidden(state[0])),)


def _lstm(state: State, inputs: Array, hidden: Product) -> State:
    i, f, g, o = jnp.split(inputs + hidden(state[0]), 4, -1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _gru(state: State, inputs: Array, hidden: Product) -> State:
    reset, update, new = jnp.split(inputs, 3, -1)
    hidden_reset, hidden_update, hidden_new = jnp.split(hidden(state[0]), 3, -1)
    reset = jax.nn.sigmoid(reset + hidden_reset)
    update = jax.nn.sigmoid(update + hidden_update)
    return ((1 - update) * jnp.tanh(new + reset * hidden_new) + update * state[0],)


_CELLS: Mapping[str, tuple[int, Callable[[State, Array, Product], State]]] = {
    "rnn": (1, _rnn),
    "lstm": (4, _lstm),
    "gru": (3, _gru),
}
"""How many gates each has, and the state after one more input."""
