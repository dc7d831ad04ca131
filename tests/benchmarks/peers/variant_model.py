"""The models of the study of variants (variant_study.py): fwl's recipe in PyTorch, with a Fast Weight Layer
on top or without one, and bodies of several kinds. Body, initialisation and the layer are those of
core/model: parameters float32, products and residual stream bfloat16 on a GPU, softmax and norms float32
inside.

Shape suffixes: b row, t position, d width, h head, x key, y value, n chunk, c position in a chunk.
"""

import dataclasses
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

EPSILON = 1e-5
HESSIAN_THRESHOLD = 0.01  # model.fast_weight.hessian_threshold
SIZES = {
    "small": dict(layers=8, width=512, heads=8, context=2048, window=512, batch=16, rate=1e-3),
    "tiny": dict(layers=4, width=64, heads=4, context=256, window=32, batch=8, rate=3e-3),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """mixers: one letter a block, repeated: S sliding-window attention, F full attention, C window
    attention with short convolutions of q, k, v and a gate on each head, L decayed linear attention.
    decays: starts of the decays of equal heads of hidden units. address: the same of heads with queries and
    keys of their own. chunk: inner gradients are taken at the fast weights of each chunk's start (0: at the
    slow weights, as fwl does). input_conv: a short convolution in front of the layer. largest: bound of the
    decays (0: 1 - 1/context, as fwl has it)."""

    mixers: str = "S"
    layer: bool = True
    slow_weight: float = 1.0
    decays: tuple = (0.998,)
    address: tuple = ()
    chunk: int = 0
    input_conv: bool = False
    largest: float = 0.0


FOUR = (0.98, 0.993, 0.998, 0.9993)
VARIANTS = {
    "control": Variant(layer=False),
    "full": Variant(mixers="F", layer=False),
    "fwl": Variant(),
    "control-conv": Variant(mixers="C", layer=False),
    "fwl-conv": Variant(mixers="C"),
    "control-linear": Variant(mixers="LLLC", layer=False),
    "fwl-linear": Variant(mixers="LLLC"),
    "fwl-slow0.3": Variant(slow_weight=0.3),
    "fwl-decays": Variant(decays=FOUR),
    "fwl-address": Variant(address=FOUR),
    "fwl-delta": Variant(chunk=512),
    "fwl-input": Variant(input_conv=True),
    "fwl-conv-address": Variant(mixers="C", address=FOUR),
    "fwl-linear-address": Variant(mixers="LLLC", address=FOUR),
    "fwl-delta256": Variant(chunk=256),
    "fwl-delta128": Variant(chunk=128),
    "fwl-delta64": Variant(chunk=64),
    "fwl-delta128-long": Variant(chunk=128, largest=1 - 1 / 16_384),
    "fwl-delta128-slow0.3": Variant(chunk=128, slow_weight=0.3),
    "fwl-conv-delta128": Variant(mixers="C", chunk=128),
    "fwl-linear-delta128": Variant(mixers="LLLC", chunk=128),
}


# ---- parts


def layer_norm(x, scale, bias):
    return F.layer_norm(x, (x.size(-1),), scale.to(x.dtype), bias.to(x.dtype), EPSILON)


def linear(x, weight, bias=None):
    return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def unit(x):
    """To the length 1, in float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def rotary(first, length, dim, device):
    position = torch.arange(first, first + length, device=device, dtype=torch.float64)
    angle = position[:, None] * 10000.0 ** (
        torch.arange(0, dim, 2, device=device, dtype=torch.float64) / -dim
    )
    return angle.cos().float(), angle.sin().float()


def rotate(x_bthx, cosine, sine):
    a, b = x_bthx.float().chunk(2, -1)
    cosine, sine = cosine[:, None], sine[:, None]
    return torch.cat((a * cosine - b * sine, a * sine + b * cosine), -1).to(x_bthx.dtype)


def remembered(memory, name, x, most):
    """x behind what `memory` holds of it; then the last `most` positions are held."""
    if memory is None:
        return x
    if name in memory:
        x = torch.cat((memory[name], x), 1)
    memory[name] = x[:, max(0, x.size(1) - most) :]
    return x


def short_convolution(x, taps, memory=None):
    """Causal and by channel: x + the sum of taps [channel, 4] times the last four inputs."""
    t, count = x.size(1), taps.size(1)
    whole = remembered(memory, "convolution", x, count - 1)
    whole = F.pad(whole, (0, 0, t + count - 1 - whole.size(1), 0))
    return x + sum(whole[:, i : i + t] * taps[:, i].to(x.dtype) for i in range(count))


def attention(q, k, v, window):
    """Causal, to the last `window` positions (0: all); q are the last of the positions of k, v."""
    t, s = q.size(1), k.size(1)
    band = 0 < window < s
    if q.is_cuda and q.dtype == torch.bfloat16:  # FlashAttention, as fwl calls it
        sides = dict(window_size_left=window - 1, window_size_right=0) if band else {}
        return torch.ops.aten._flash_attention_forward(q, k, v, None, None, t, s, 0.0, True, False, **sides)[
            0
        ]
    distance = torch.arange(s - t, s, device=q.device)[:, None] - torch.arange(s, device=q.device)
    allowed = (distance >= 0) & (distance < (window or s))
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2)


def decayed_attention(q, k, v, log_decay_bth, state=None, chunk=128):
    """S_i = exp(log_decay_i) S_{i-1} + k_i v_i^T, output S_i^T q_i, in chunks: q, k [b, t, h, x],
    v [b, t, h, y]. Also the state [b, h, x, y] behind the last position. t is a multiple of the chunk."""
    cut = lambda x: x.unflatten(1, (-1, min(chunk, x.size(1)))).movedim(3, 1)  # [b, h, n, c, ...]
    q, k, v, log_decay = cut(q), cut(k), cut(v), cut(log_decay_bth)
    inside = log_decay.cumsum(-1)
    last = inside[..., -1]
    i = torch.arange(q.size(3), device=q.device)
    gap = torch.where(i[:, None] >= i, inside[..., :, None] - inside[..., None, :], -math.inf).exp()
    near = ((q @ k.mT) * gap).to(v.dtype) @ v
    added = (k * (last[..., None] - inside).exp()[..., None].to(k.dtype)).mT @ v  # [b, h, n, x, y]
    total, j = last.cumsum(-1), torch.arange(q.size(2), device=q.device)
    reach = torch.where(j[:, None] > j, (total - last)[..., :, None] - total[..., None, :], -math.inf).exp()
    before = (reach @ added.float().flatten(3)).view(added.shape)
    if state is not None:
        before = before + (total - last).exp()[..., None, None] * state[:, :, None]
    far = (q * inside.exp()[..., None].to(q.dtype)) @ before.to(q.dtype)
    behind = last[..., -1].exp()[..., None, None] * before[:, :, -1] + added[:, :, -1].float()
    return (near + far).movedim(1, 3).flatten(1, 2), behind


# ---- blocks, as functions of their parameters p (what torch.compile gets)


def window_mixer(y, cosine, sine, p, heads, window, memory):
    qkv = linear(y, p["qkv"])
    if "taps" in p:
        qkv = short_convolution(qkv, p["taps"], memory)
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).unbind(2)
    q, k = rotate(q, cosine, sine), rotate(k, cosine, sine)
    most = window - 1 if window else 1 << 40
    k, v = remembered(memory, "k", k, most), remembered(memory, "v", v, most)
    x = attention(q, k, v, window)
    if "gate" in p:
        x = x * (2 * torch.sigmoid(linear(y, p["gate"])))[..., None]
    return linear(x.flatten(2), p["out"])


def linear_mixer(y, p, heads, memory):
    """Keys of length 1, a gate on writing and a decay by token and head, a gated norm on what is read."""
    qkvg = linear(y, p["qkvg"])
    d = y.size(-1)
    qkv = F.silu(short_convolution(qkvg[..., : 3 * d], p["taps"], memory))
    q, k, v = qkv.unflatten(-1, (3, heads, -1)).unbind(2)
    q, k = unit(q).to(y.dtype), unit(k).to(y.dtype)
    decay, write = linear(y, p["rates"]).float().chunk(2, -1)
    log_decay = -p["log_rate"].exp() * F.softplus(decay + p["rate_bias"])
    v = v * torch.sigmoid(write)[..., None].to(v.dtype)
    x, state = decayed_attention(q, k, v, log_decay, None if memory is None else memory.get("state"))
    if memory is not None:
        memory["state"] = state
    x = F.rms_norm(x.float(), (x.size(-1),), p["norm"], EPSILON)
    x = x.flatten(2) * F.silu(qkvg[..., 3 * d :].float())
    return linear(x.to(y.dtype), p["out"])


def block(x, cosine, sine, p, kind, heads, window, memory=None):
    y = layer_norm(x, p["scale1"], p["bias1"])
    mixed = (
        linear_mixer(y, p, heads, memory)
        if kind == "L"
        else window_mixer(y, cosine, sine, p, heads, window, memory)
    )
    x = x + mixed
    return x + linear(F.relu(linear(layer_norm(x, p["scale2"], p["bias2"]), p["up"])).square(), p["down"])


def top_activations(h, p):
    """The layer's feed-forward block at its slow weights: its input z, hidden units a, output o."""
    z = layer_norm(h, p["scale_in"], p["bias_in"])
    a = F.relu(linear(z, p["w1"], p["b1"])).square()
    return z, a, h + linear(a, p["w2"], p["b2"])


def losses(n, label, p):
    logits = linear(n, p["embedding"]).float()
    return F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view(label.shape)


def static_pass(h, label, p):
    return losses(layer_norm(top_activations(h, p)[2], p["scale_out"], p["bias_out"]), label, p)


# ---- the Fast Weight Layer: second dense layer fast, keys of one length, gate on writing, step sizes by row


def inner_gradient(z, o, label, p):
    """Of each token's own loss with respect to o, times the token's gate; and the losses."""
    n = layer_norm(o, p["scale_out"], p["bias_out"])
    logits = linear(n, p["embedding"]).float()
    nll = F.cross_entropy(logits.flatten(0, 1), label.flatten(), reduction="none").view(label.shape)
    probability = torch.softmax(logits, -1)
    # Logits of unlikely tokens are constants in the errors.
    seen = torch.where(probability.detach() >= HESSIAN_THRESHOLD, logits, logits.detach())
    hit = torch.arange(logits.size(-1), device=label.device) == label[..., None]
    error = torch.softmax(seen, -1) - hit.float()
    gate = 2 * torch.sigmoid((z * p["gate_d"].to(z.dtype)).sum(-1).float() + p["gate_v"][label])
    q = torch.matmul(error.to(n.dtype), p["embedding"].to(n.dtype)) * gate[..., None].to(n.dtype)
    q = q.float() * p["scale_out"]
    centred = o.float() - o.float().mean(-1, keepdim=True)
    inverse = torch.rsqrt(centred.square().mean(-1, keepdim=True) + EPSILON)
    xhat = centred * inverse
    g = inverse * (q - q.mean(-1, keepdim=True) - xhat * (q * xhat).mean(-1, keepdim=True))
    return g.to(n.dtype), nll


def queries_and_keys(z, a, p, heads, address):
    """Of each memory [b, t, x]: `heads` parts of the hidden units, then `address` projections of z."""
    d = z.size(-1)
    keys = (unit(a) * math.sqrt(d)).to(a.dtype)
    pairs = list(zip(a.chunk(heads, -1), keys.chunk(heads, -1)))
    if address:
        q, k = unit(F.relu(linear(z, p["address"])).unflatten(-1, (2, address, -1))).unbind(2)
        q = q * (d * p["log_scale"].exp()[:, None])
        pairs += [(q[:, :, i].to(z.dtype), k[:, :, i].to(z.dtype)) for i in range(address)]
    return pairs


def log_decays(p, largest):
    return math.log(largest) - F.softplus(p["raw_decay"])


def fast_pass(h, label, document, before, states, p, heads, address, at_start, keep, largest):
    """Over one chunk: losses of the fast pass, losses of the pass that makes the inner gradients, states.

    States [b, d, x] are exclusive: position i reads sum_{j < i} decay^(i-1-j) g_j k_j^T of its own
    document. `before` [b]: document of the position before the chunk. at_start: gradients at the chunk's
    first fast weights.
    """
    z, a, o = top_activations(h, p)
    pairs, log_decay, t = queries_and_keys(z, a, p, heads, address), log_decays(p, largest), h.size(1)
    i = torch.arange(t, device=h.device)
    step, inbound = p["log_step"].exp().to(o.dtype), 0
    if states is not None:
        alive = (document == before[:, None]).float()[..., None]
        inbound = sum(
            (q.float() * alive * torch.exp(log_decay[m] * i)[:, None]).to(o.dtype) @ states[m].to(o.dtype).mT
            for m, (q, _) in enumerate(pairs)
        )
    base = o - step * inbound
    g, nll = inner_gradient(z, base if at_start else o, label, p)
    gap = i[:, None] - 1 - i
    allowed = (gap >= 0) & (document[:, :, None] == document[:, None, :])
    power = lambda m: torch.where(allowed, torch.exp(log_decay[m] * gap.clamp(min=0)), 0.0)
    scores = sum((q @ k.mT).float() * power(m) for m, (q, k) in enumerate(pairs))
    fast = layer_norm(base - step * (scores.to(o.dtype) @ g), p["scale_out"], p["bias_out"])
    if not keep:
        return losses(fast, label, p), nll, None
    last, behind = document[:, -1:], []
    for m, (_, k) in enumerate(pairs):
        weight = (document == last).float() * torch.exp(log_decay[m] * (t - 1 - i))
        state = ((g.float() * weight[..., None]).to(g.dtype).mT @ k).float()
        if states is not None:
            kept = (before[:, None] == last).float() * torch.exp(log_decay[m] * t)
            state = state + kept[..., None] * states[m]
        behind.append(state)
    return losses(fast, label, p), nll, behind


# ---- the model

COMPILED = {}


def run(function):
    """Compiled in training where asked for, as it is in evaluation (shapes change there)."""
    if not COMPILED or not torch.is_grad_enabled():
        return function
    if function.__name__ not in COMPILED:
        COMPILED[function.__name__] = torch.compile(function, dynamic=False)
    return COMPILED[function.__name__]


def normal(rows, columns, std=0.02):
    return nn.Parameter(torch.randn(rows, columns) * std)


def vector(n, value=0.0):
    return nn.Parameter(torch.full((n,), float(value)))


class Block(nn.Module):
    def __init__(self, size, kind):
        super().__init__()
        d, out_std = size["width"], 0.02 / math.sqrt(2 * size["layers"])
        self.kind, self.heads, self.window = kind, size["heads"], 0 if kind == "F" else size["window"]
        self.scale1, self.bias1, self.scale2, self.bias2 = vector(d, 1), vector(d), vector(d, 1), vector(d)
        hidden = 4 * d
        if kind == "L":  # 5 d^2 of projections and 7 d^2 of feed-forward: as many parameters as the others
            hidden = 7 * d // 2
            self.qkvg, self.rates = normal(4 * d, d), normal(2 * self.heads, d)
            rate = torch.empty(self.heads).uniform_(0, 16).log()  # as Gated DeltaNet and Mamba-2 start
            time = torch.exp(torch.rand(self.heads) * math.log(100) + math.log(0.001))
            self.log_rate, self.rate_bias = (
                nn.Parameter(rate),
                nn.Parameter(time + torch.log(-torch.expm1(-time))),
            )
            self.norm = vector(d // self.heads, 1)
        else:
            self.qkv = normal(3 * d, d)
        self.out, self.up, self.down = normal(d, d, out_std), normal(hidden, d), normal(d, hidden, out_std)
        if kind in "CL":
            self.taps = nn.Parameter(torch.zeros(3 * d, 4))
        if kind == "C":
            self.gate = nn.Parameter(torch.zeros(self.heads, d))

    def forward(self, x, table, memory):
        arguments = (x, *table, dict(self.named_parameters()), self.kind, self.heads, self.window)
        return run(block)(*arguments) if memory is None else block(*arguments, memory)


class LanguageModel(nn.Module):
    def __init__(self, size, variant, vocabulary):
        super().__init__()
        d, v = size["width"], variant
        out_std = 0.02 / math.sqrt(2 * size["layers"])
        self.size, self.variant = size, variant
        top = dict(
            embedding=normal(vocabulary, d),
            scale_in=vector(d, 1),
            bias_in=vector(d),
            scale_out=vector(d, 1),
            bias_out=vector(d),
            w1=normal(4 * d, d),
            b1=vector(4 * d),
            w2=normal(d, 4 * d, out_std),
            b2=vector(d),
        )
        self.blocks = nn.ModuleList(Block(size, v.mixers[i % len(v.mixers)]) for i in range(size["layers"]))
        if v.layer:
            top |= dict(log_step=vector(d, math.log(2 / d)), gate_d=vector(d), gate_v=vector(vocabulary))
            starts = [min(start, self.largest() - 1e-5) for start in (*v.decays, *v.address)]
            distances = torch.tensor([math.log(self.largest() / start) for start in starts])
            top["raw_decay"] = nn.Parameter(distances.expm1().log())
        if v.address:
            top |= dict(address=normal(2 * d, d), log_scale=vector(len(v.address), math.log(0.25)))
        if v.input_conv:
            top["input_taps"] = nn.Parameter(torch.zeros(d, 4))
        self.top = nn.ParameterDict(top)

    def largest(self):
        return self.variant.largest or max(1 - 1 / self.size["context"], (1 + 0.998) / 2)

    def fast_trained(self):
        """Parameters at thirty times the learning rate (train.optimizer)."""
        return [p for name, p in self.top.items() if name in ("log_step", "raw_decay", "log_scale")]

    def compute_type(self):
        return torch.bfloat16 if self.top["embedding"].is_cuda else torch.float32

    def hidden(self, token, memory=None):
        """Behind the blocks [b, t, d]. `memory`: a dict of what goes on from one piece of a sequence to the
        next."""
        x = F.embedding(token, self.top["embedding"]).to(self.compute_type())
        first = 0 if memory is None else memory.setdefault("position", 0)
        table = rotary(first, token.size(1), self.size["width"] // self.size["heads"], x.device)
        for number, one in enumerate(self.blocks):
            x = one(x, table, None if memory is None else memory.setdefault(number, {}))
        if self.variant.input_conv:
            x = short_convolution(
                x, self.top["input_taps"], None if memory is None else memory.setdefault("top", {})
            )
        if memory is not None:
            memory["position"] += token.size(1)
        return x

    def fast(self, h, label, document, before, states, keep):
        v = self.variant
        return run(fast_pass)(
            h,
            label,
            document,
            before,
            states,
            dict(self.top.items()),
            len(v.decays),
            len(v.address),
            v.chunk > 0,
            keep,
            self.largest(),
        )

    def loss(self, token, label, document_start):
        """What is trained, and the loss of what predicts."""
        h = self.hidden(token)
        if not self.variant.layer:
            loss = run(static_pass)(h, label, dict(self.top.items())).mean()
            return loss, loss
        document, chunk = (token == document_start).cumsum(1), self.variant.chunk
        if not chunk:
            fast, inner, _ = self.fast(h, label, document, document[:, 0], None, False)
            return fast.mean() + self.variant.slow_weight * inner.mean(), fast.mean()
        states, parts = self.empty_states(h), []
        for first in range(0, h.size(1), chunk):
            part = slice(first, first + chunk)
            *found, states = self.fast(
                h[:, part], label[:, part], document[:, part], document[:, max(0, first - 1)], states, True
            )
            parts.append([x.mean() for x in found])
        fast, inner = (sum(x) / len(parts) for x in zip(*parts))
        return fast + self.variant.slow_weight * inner, fast

    def empty_states(self, h):
        d, v = h.size(-1), self.variant
        widths = [4 * d // len(v.decays) for _ in v.decays] + [d // len(v.address) for _ in v.address]
        return [h.new_zeros((h.size(0), d, width), dtype=torch.float32) for width in widths]

    def slow_nats(self, h, label):
        parts = [
            static_pass(x, y, dict(self.top.items())) for x, y in zip(h.split(2048, 1), label.split(2048, 1))
        ]
        return torch.cat(parts, 1)

    def fast_nats(self, h, label, reset=0):
        """At the fast weights, which go on over all of h, or start from nothing every `reset` positions."""
        piece, states, found = self.variant.chunk or self.size["context"], None, []
        for first in range(0, h.size(1), piece):
            if reset and first % reset == 0:
                states = None
            x, y = h[:, first : first + piece], label[:, first : first + piece]
            nats, _, states = self.fast(x, y, torch.zeros_like(y), y.new_zeros(y.size(0)), states, True)
            found.append(nats)
        return torch.cat(found, 1)
