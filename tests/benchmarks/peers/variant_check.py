#!/usr/bin/env python3
"""Checks of variant_model.py at a tiny size on a CPU, in float32: half a minute.

    tests/support/test-python tests/benchmarks/peers/variant_check.py

Of every variant: a changed token changes no loss before it is read; pieces with what the mixers remember
are the whole; training's chunks are evaluation's; every parameter has a finite gradient. Of the parts:
decayed attention is its loop over tokens; behind a document's start nothing of the document before is read.
"""

import dataclasses

import torch
import variant_model as models

SIZE = dict(models.SIZES["tiny"], context=128, window=16)
VOCABULARY, START = 97, 0


def tiny(variant):
    torch.manual_seed(1)
    if variant.chunk:
        variant = dataclasses.replace(variant, chunk=32)
    model = models.LanguageModel(SIZE, variant, VOCABULARY)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.abs().max() == 0:  # starts of zero hide mistakes
                torch.nn.init.normal_(p, std=0.3 if "taps" in name or "gate" in name else 0.1)
            elif p.dim() > 1:
                p *= 3
    return model


def nats(model, token):
    h, label = model.hidden(token[:, :-1]), token[:, 1:]
    return (model.fast_nats if model.variant.layer else model.slow_nats)(h, label)


def check_variant(name, variant):
    model, token = tiny(variant), torch.randint(1, VOCABULARY, (3, 257))
    with torch.no_grad():
        changed = token.clone()
        changed[:, 200] = changed[:, 200] % (VOCABULARY - 1) + 1
        difference = (nats(model, token) - nats(model, changed)).abs()
        assert difference[:, :199].max() < 1e-5, f"{name}: a token is seen before its turn"
        assert difference[:, 199].min() > 1e-5 and difference[:, 200:].max() > 1e-3, (
            f"{name}: a token is not seen"
        )
        if "F" not in variant.mixers:
            memory, x = {}, token[:, :-1]
            pieces = torch.cat([model.hidden(part, memory) for part in x.split(128, 1)], 1)
            assert (pieces - model.hidden(x)).abs().max() < 1e-4, f"{name}: pieces are not the whole"
        trained = model.loss(token[:, :128], token[:, 1:129], START)[1]
        assert abs(trained - nats(model, token[:, :129]).mean()) < 1e-4, f"{name}: training is not evaluation"
    model.loss(token[:, :128], token[:, 1:129], START)[0].backward()
    for part, p in model.named_parameters():
        assert p.grad is not None and p.grad.isfinite().all() and p.grad.abs().max() > 0, (
            f"{name}: gradient of {part}"
        )


def check_decayed_attention():
    b, t, h, x, y = 2, 96, 3, 5, 7
    (q, k), v, log_decay = torch.randn(2, b, t, h, x), torch.randn(b, t, h, y), -0.3 * torch.rand(b, t, h)
    first = state = torch.randn(b, h, x, y)
    outputs = []
    for i in range(t):
        state = log_decay[:, i].exp()[..., None, None] * state + k[:, i, :, :, None] * v[:, i, :, None]
        outputs.append(torch.einsum("bhx,bhxy->bhy", q[:, i], state))
    found, behind = models.decayed_attention(q, k, v, log_decay, first, chunk=32)
    assert (found - torch.stack(outputs, 1)).abs().max() < 1e-4 and (behind - state).abs().max() < 1e-4


def check_documents(name, boundary):
    model = tiny(dataclasses.replace(models.VARIANTS[name], chunk=32))
    h, label = torch.randn(3, 128, SIZE["width"]), torch.randint(0, VOCABULARY, (3, 128))
    document = (torch.arange(128) >= boundary).long().expand(3, -1)

    def pieces(h):
        states, found = model.empty_states(h), []
        for i in range(0, 128, 32):
            nats_, _, states = model.fast(
                h[:, i : i + 32],
                label[:, i : i + 32],
                document[:, i : i + 32],
                document[:, max(0, i - 1)],
                states,
                True,
            )
            found.append(nats_)
        return torch.cat(found, 1)

    other = h.clone()
    other[:, :boundary] = torch.randn(3, boundary, SIZE["width"])
    with torch.no_grad():
        difference = (pieces(h) - pieces(other)).abs()
    assert difference[:, boundary:].max() == 0 and difference[:, :boundary].max() > 0, (
        f"{name}: documents mix"
    )


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    check_decayed_attention()
    for name in ("fwl", "fwl-decays", "fwl-address", "fwl-delta"):
        for boundary in (64, 72):
            check_documents(name, boundary)
    different = {}  # at the tiny size chunks and weights of losses make no difference to what is checked
    for name, v in models.VARIANTS.items():
        different.setdefault((v.mixers, v.layer, v.decays, v.address, v.chunk > 0, v.input_conv), name)
    for name in different.values():
        check_variant(name, models.VARIANTS[name])
        print("right:", name, flush=True)


if __name__ == "__main__":
    main()
