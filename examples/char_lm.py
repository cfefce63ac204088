"""A character-level language model of Python code: a small transformer, or an LSTM, on the standard library's sources.

Trains for a while, and compares the bits per character on held-out files with those of an n-gram model with the best
order and interpolation that counting can give. Then writes a little code of its own.

    python examples/char_lm.py
    python examples/char_lm.py --model lstm
"""

import argparse
from collections import Counter

import numpy as np

import thalweg as tw


class Block(tw.nn.Module):
    """One layer of a transformer: attention and a two-layer perceptron, each with a shortcut around it."""

    def __init__(self, features, heads, rng):
        self.norm1 = tw.nn.LayerNorm(features)
        self.attention = tw.nn.MultiHeadAttention(features, heads, rng, causal=True)
        self.norm2 = tw.nn.LayerNorm(features)
        self.wide = tw.nn.Dense(features, 4 * features, rng)
        self.narrow = tw.nn.Dense(4 * features, features, rng)

    def __call__(self, x, *, training=False):
        x = x + self.attention(self.norm1(x))
        return x + self.narrow(tw.nn.gelu(self.wide(self.norm2(x)), approximate=True))


class Transformer(tw.nn.Module):
    """int[batch, time] -> logits [batch, time, characters]."""

    def __init__(self, characters, features, layers, heads, time, rng):
        self.embed = tw.nn.Embedding(characters, features, rng)
        self.place = tw.nn.Embedding(time, features, rng)
        self.blocks = [Block(features, heads, rng) for _ in range(layers)]
        self.norm = tw.nn.LayerNorm(features)
        self.head = tw.nn.Dense(features, characters, rng)

    def __call__(self, x, *, training=False):
        x = self.embed(x) + self.place(tw.arange(x.shape[1], dtype=tw.int32))
        for block in self.blocks:
            x = block(x, training=training)
        return self.head(self.norm(x))


class Recurrent(tw.nn.Module):
    """The same with an LSTM."""

    def __init__(self, characters, features, rng):
        self.embed = tw.nn.Embedding(characters, features, rng)
        self.lstm = tw.nn.LSTM(features, 2 * features, rng)
        self.head = tw.nn.Dense(2 * features, characters, rng)

    def __call__(self, x, *, training=False):
        return self.head(self.lstm(self.embed(x)))


def ngram_bits(train, test, characters, order):
    """Bits per character of a Witten-Bell interpolated n-gram model of this order, counted on `train`."""
    probability = np.full(len(test), 1.0 / characters)
    for n in range(1, order + 1):
        grams = Counter(zip(*(train[i : len(train) - n + 1 + i] for i in range(n)), strict=True))
        followers, total = Counter(), Counter()
        for gram, count in grams.items():
            followers[gram[:-1]] += 1
            total[gram[:-1]] += count
        for i in range(n - 1, len(test)):
            context = tuple(test[i - n + 1 : i])
            kinds, seen = followers[context], total[context]
            if seen:
                found = grams[(*context, test[i])]
                probability[i] = (found + kinds * probability[i]) / (seen + kinds)
    return float(-np.log2(probability).mean())


def sample(predict, text, length, time, rng):
    """Characters drawn one after the other from the model's distribution."""
    tokens = list(text.encode("def "))
    for _ in range(length):
        window = np.zeros((1, time), np.int32)
        seen = tokens[-time:]
        window[0, : len(seen)] = seen
        logits = np.asarray(predict(window))[0, len(seen) - 1].astype(np.float64)
        weights = np.exp((logits - logits.max()) / 0.7)
        tokens.append(int(rng.choice(len(weights), p=weights / weights.sum())))
    return text.decode(tokens)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["transformer", "lstm"], default="transformer")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--time", type=int, default=64, help="characters that the model sees at once")
    parser.add_argument("--features", type=int, help="96 for the transformer, 128 for the LSTM")
    parser.add_argument("--rate", type=float, default=4e-3)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--characters", type=int, default=1_000_000, help="size of the text")
    parser.add_argument("--order", type=int, default=5, help="of the n-gram model to compare with")
    parser.add_argument("--sample", type=int, default=200, help="characters to write at the end")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    text = tw.data.text(characters=args.characters)
    characters, rng = len(text.alphabet), np.random.default_rng(args.seed)
    features = args.features or {"transformer": 96, "lstm": 128}[args.model]
    if args.model == "transformer":
        model = Transformer(characters, features, args.layers, 4, args.time, rng)
    else:
        model = Recurrent(characters, features, rng)
    weights = model.trainable
    opt = tw.optim.AdamW(tw.optim.warmup(20, tw.optim.cosine(args.rate, args.steps)), decay=0.01)

    @tw.function
    def step(inputs, targets):
        def loss():
            return tw.mean(tw.nn.softmax_cross_entropy(model(inputs, training=True), targets))

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        gradients, _ = tw.optim.clip_by_global_norm(gradients, 1.0)
        opt.apply(zip(gradients, weights, strict=True))
        return value

    @tw.function
    def evaluate(inputs, targets):
        return tw.mean(tw.nn.softmax_cross_entropy(model(inputs), targets))

    train = tw.data.windows(text.train, args.time)
    batches = tw.data.batches(
        train, args.batch, shuffle=True, seed=args.seed, steps=args.steps, drop_remainder=True, progress=args.model
    )
    for inputs, targets in batches:
        batches.report(loss=step(inputs, targets))

    held_out = text.test[:20_000]
    test = tw.data.batches(tw.data.windows(held_out, args.time), args.batch, drop_remainder=True)
    bits = float(np.mean([float(evaluate(*batch)) for batch in test])) / np.log(2)
    counted = {n: ngram_bits(text.train, held_out, characters, n) for n in range(1, args.order + 1)}
    best = min(counted, key=counted.get)
    print(f"bits per held-out character: {bits:.2f}; the best n-gram model ({best}-gram): {counted[best]:.2f}")
    if args.sample:
        print(sample(tw.function(model), text, args.sample, args.time, rng))
    return bits, counted[best]


if __name__ == "__main__":
    main()
