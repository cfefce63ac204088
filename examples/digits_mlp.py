"""Handwritten digits with a multilayer perceptron: 64 pixels, two hidden layers, 10 classes.

    python examples/digits_mlp.py
"""

import argparse

import numpy as np

import thalweg as tw


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    train, (test_images, test_labels) = tw.data.digits()
    rng = np.random.default_rng(args.seed)
    model = tw.nn.Sequential(
        tw.nn.Dense(64, 128, rng, activation=tw.nn.relu),
        tw.nn.Dense(128, 64, rng, activation=tw.nn.relu),
        tw.nn.Dense(64, 10, rng),
    )
    weights = model.trainable
    opt = tw.optim.Momentum(args.rate, 0.9)

    @tw.function
    def step(images, labels):
        def loss():
            return tw.mean(tw.nn.softmax_cross_entropy(model(images, training=True), labels))

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        opt.apply(zip(gradients, weights, strict=True))
        return value

    @tw.function
    def classify(images):
        return tw.argmax(model(images), axis=-1)

    batches = tw.data.batches(
        train, args.batch, shuffle=True, seed=args.seed, epochs=args.epochs, drop_remainder=True, progress="digits"
    )
    for images, labels in batches:
        batches.report(loss=step(images, labels))

    accuracy = float(np.mean(np.asarray(classify(test_images)) == test_labels))
    print(f"accuracy on {len(test_labels)} held-out images: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
