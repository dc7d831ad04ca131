"""fwl's language model in plain PyTorch: the peer of the speed comparisons. The same parts as the defaults of core/model/config.h
(rotary positions, RMS norms, squared ReLU, sliding window in blocks, tied embedding, no biases in the body) and the Fast Weight Layer
on top: layer norms, row-wise step sizes, learned decays, second order through autograd. Shape suffixes: b batch, t position, d width."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def rotary(length, dim, device):
    angle = torch.arange(length, device=device)[:, None] * 10000.0 ** (-torch.arange(0, dim, 2, device=device) / dim)
    return angle.cos(), angle.sin()


def rotate(x, table):
    cos, sin = (t.to(x.dtype) for t in table)
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


def window_attention(q, k, v, window):
    """Causal attention [b, heads, t, e] to the last `window` positions: a block's queries meet their own block and the one before."""
    b, h, t, e = q.shape
    if window == 0 or window >= t:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert t % window == 0, "the peer's window divides its context"
    n = t // window
    blocks = lambda x: x.reshape(b, h, n, window, e).transpose(1, 2)  # [b, n, h, window, e]
    first = F.scaled_dot_product_attention(*(x[:, :, :window] for x in (q, k, v)), is_causal=True)
    pairs = lambda x: torch.cat((blocks(x)[:, :-1], blocks(x)[:, 1:]), 3).flatten(0, 1)
    gap = torch.arange(window, device=q.device)[:, None] + window - torch.arange(2 * window, device=q.device)
    mask = torch.zeros(gap.shape, dtype=q.dtype, device=q.device).masked_fill((gap < 0) | (gap >= window), -math.inf)
    rest = F.scaled_dot_product_attention(blocks(q)[:, 1:].flatten(0, 1), pairs(k), pairs(v), attn_mask=mask)
    rest = rest.view(b, n - 1, h, window, e).transpose(1, 2).reshape(b, h, t - window, e)
    return torch.cat((first, rest), 2)


class Block(nn.Module):
    def __init__(self, d, heads, layers):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.RMSNorm(d, eps=1e-5), nn.RMSNorm(d, eps=1e-5)
        self.qkv, self.out = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(4 * d, d, bias=False)
        for w, std in ((self.qkv, 0.02), (self.up, 0.02), (self.out, 0.02 / math.sqrt(2 * layers)), (self.down, 0.02 / math.sqrt(2 * layers))):
            nn.init.normal_(w.weight, std=std)

    def forward(self, x, table, window):
        b, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = window_attention(rotate(q, table), rotate(k, table), v, window)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, d))
        return x + self.down(F.relu(self.up(self.norm2(x))).square())


def linear_attention(q, k, v, log_decay, chunk):
    """sum_{j < i} decay^(i - 1 - j) v_j <k_j, q_i> in chunks: q, k [b, t, x], v [b, t, y]."""
    b, t, _ = q.shape
    c, n = min(chunk, t), t // min(chunk, t)
    q, k, v = (x.view(b, n, c, -1) for x in (q, k, v))
    i = torch.arange(c, device=q.device)
    gap = i[:, None] - 1 - i
    power = lambda exponent: torch.exp(log_decay * exponent)
    y = ((q @ k.mT) * torch.where(gap >= 0, power(gap.clamp(min=0)), 0.0).to(q.dtype)) @ v
    if n == 1:
        return y.view(b, t, -1)
    added = (v * power(c - 1 - i)[:, None].to(v.dtype)).mT @ k  # [b, n, y, x]
    g = torch.arange(n, device=q.device)
    gap = g[:, None] - 1 - g
    before = torch.where(gap >= 0, power(c * gap.clamp(min=0)), 0.0).to(q.dtype)
    state = (before @ added.flatten(2)).view_as(added)
    return (y + (q * power(i)[:, None].to(q.dtype)) @ state.mT).view(b, t, -1)


class FastWeightLayer(nn.Module):
    def __init__(self, d, layers, chunk):
        super().__init__()
        self.chunk, self.norm_in, self.norm_out = chunk, nn.LayerNorm(d), nn.LayerNorm(d)
        self.w1, self.w2 = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
        for w, std in ((self.w1, 0.02), (self.w2, 0.02 / math.sqrt(2 * layers))):
            nn.init.normal_(w.weight, std=std)
            nn.init.zeros_(w.bias)
        self.log_step1, self.log_step2 = (nn.Parameter(torch.full((rows,), math.log(0.25 / d))) for rows in (4 * d, d))
        self.raw_decay = nn.Parameter(torch.full((2,), math.log(math.expm1(-math.log(0.998)))))

    def forward(self, h, label, unembedding, fast):
        z = self.norm_in(h)
        u = self.w1(z)
        a = F.relu(u).square()
        o = h + self.w2(a)
        n = self.norm_out(o)
        if not fast:
            return n
        # The inner gradient, written out: of each token's own loss with respect to the dense layers' outputs.
        error = torch.softmax(F.linear(n, unembedding).float(), -1) - F.one_hot(label, unembedding.size(0))
        q = (error.to(n.dtype) @ unembedding) * self.norm_out.weight
        centred = o - o.mean(-1, keepdim=True)
        scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        xhat = centred * scale
        g2 = scale * (q - q.mean(-1, keepdim=True) - xhat * (q * xhat).mean(-1, keepdim=True))
        g1 = (g2 @ self.w2.weight) * (2 * F.relu(u))
        log_decay = -F.softplus(self.raw_decay)
        fast_a = F.relu(u - self.log_step1.exp() * linear_attention(z, z, g1, log_decay[0], self.chunk)).square()
        return self.norm_out(h + self.w2(fast_a) - self.log_step2.exp() * linear_attention(fast_a, a, g2, log_decay[1], self.chunk))


class LanguageModel(nn.Module):
    def __init__(self, vocabulary, layers, heads, width, window, chunk):
        super().__init__()
        self.window, self.heads = window, heads
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.ModuleList(Block(width, heads, layers) for _ in range(layers))
        self.layer = FastWeightLayer(width, layers, chunk)

    def forward(self, token, label, fast):
        x = self.embedding(token)
        table = rotary(token.size(1), x.size(-1) // self.heads, x.device)
        for block in self.blocks:
            x = block(x, table, self.window)
        logits = F.linear(self.layer(x, label, self.embedding.weight, fast), self.embedding.weight)
        return F.cross_entropy(logits.float().view(-1, logits.size(-1)), label.flatten())


def optimizer_of(model, rate=1e-4):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW([dict(params=matrices, weight_decay=0.1), dict(params=others, weight_decay=0.0)], lr=rate, betas=(0.9, 0.95), fused=True)
