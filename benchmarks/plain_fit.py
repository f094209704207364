"""IR-Net's training on CIFAR-10 as one would write it by hand, to compare with ``onebit train``.

    python benchmarks/plain_fit.py --data-dir DATA [--epochs 5] [--seed 1]
    onebit train irnet --data-dir DATA --output RUN --epochs 5

Nothing of ``onebit.recipes`` is used here: plain Keras and tf.data, the network and the EDE schedule. The two see other
random numbers, so their accuracies differ as two seeds' do.
"""

from __future__ import annotations

import argparse
import math

from onebit import zoo

# isort: split
import tensorflow as tf
import tensorflow_datasets as tfds

from onebit.quantizers import EDESchedule

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
BATCH = 128


def augment(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Shift each image by up to 4 pixels and mirror it half the time."""
    padded = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]])
    images = tf.map_fn(lambda image: tf.image.random_crop(image, (32, 32, 3)), padded)
    return tf.image.random_flip_left_right(images), labels


def normalise(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Bring pixels to ImageNet's mean and deviation."""
    return (tf.cast(images, tf.float32) - MEAN) / STD, labels


def main() -> None:
    """Train and print the accuracy on the test images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="where TensorFlow Datasets finds CIFAR-10")
    parser.add_argument("--epochs", type=int, default=5, help="(default: 5)")
    parser.add_argument("--seed", type=int, default=1, help="(default: 1)")
    options = parser.parse_args()
    tf.keras.utils.set_random_seed(options.seed)
    training, test = tfds.load(
        "cifar10", split=["train", "test"], data_dir=options.data_dir, as_supervised=True, download=False
    )
    training = training.cache().shuffle(50_000).batch(BATCH, drop_remainder=True).map(augment).map(normalise)
    test = test.batch(250).map(normalise).cache()
    model = zoo.IRNetResNet20()
    decay = 1e-4
    optimizer = tf.keras.optimizers.SGD(0.1, momentum=0.9)
    loss = tf.keras.losses.SparseCategoricalCrossentropy()

    class Decayed(tf.keras.Model):
        """The network, whose loss has L2 on all parameters."""

        def compute_loss(self, x: tf.Tensor, y: tf.Tensor, y_pred: tf.Tensor, sample_weight: tf.Tensor) -> tf.Tensor:
            squares = tf.add_n([tf.nn.l2_loss(variable) for variable in self.trainable_variables])
            return super().compute_loss(x, y, y_pred, sample_weight) + decay * squares

    model = Decayed(model.inputs, model.outputs)
    model.compile(optimizer, loss, metrics=["accuracy"])
    rate = tf.keras.callbacks.LearningRateScheduler(
        lambda epoch: 0.05 * (1 + math.cos(math.pi * epoch / options.epochs))
    )
    ede = EDESchedule(options.epochs, 1e-3, 10.0)
    model.fit(training.prefetch(2), epochs=options.epochs, validation_data=test, callbacks=[rate, ede], verbose=2)
    print(f"{100 * model.evaluate(test, verbose=0)[1]:.2f} % of the 10,000 test images")


if __name__ == "__main__":
    main()
