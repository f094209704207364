"""larq-zoo's models and weights under this zoo's roof."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorflow as tf

from onebit import zoo
from onebit.util.memory import release_custom_gradients
from onebit.zoo.checkpoints.variables import named_variables

larq_zoo = pytest.importorskip("larq_zoo")
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)


def shaken(model):
    """Give every variable of a model a value of its own, as a training would."""
    rng = np.random.default_rng(1)
    model.set_weights(
        [
            w + rng.uniform(0.01, 0.2, w.shape).astype(w.dtype) * rng.choice([-1, 1], w.shape[-1:])
            for w in model.get_weights()
        ]
    )
    for layer in model.layers:
        if hasattr(layer, "moving_variance"):
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model


@pytest.fixture(scope="module")
def theirs():
    return shaken(larq_zoo.literature.BiRealNet(weights=None, input_shape=(64, 64, 3)))


@pytest.fixture(scope="module")
def their_file(theirs, tmp_path_factory):
    path = tmp_path_factory.mktemp("larq") / "birealnet_weights.h5"
    theirs.save_weights(str(path))
    return path


@pytest.mark.slow
def test_birealnet18_computes_what_larq_zoo_s_network_does(theirs, their_file):
    ours = zoo.BiRealNet18(weights=their_file, input_shape=(64, 64, 3))
    assert zoo.model_info(ours).arguments["variant"] == "larq_zoo"
    np.testing.assert_allclose(ours(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_their_file_does_not_fit_the_official_variant(their_file):
    with pytest.raises(ValueError, match="variant='official'"):
        zoo.BiRealNet18(weights=their_file, variant="official")
    with pytest.raises(ValueError, match="does not fit the model 'birealnet34'"):
        zoo.BiRealNet34(weights=their_file)


@pytest.mark.slow
def test_their_file_is_not_for_the_full_precision_network(their_file):
    with pytest.raises(ValueError, match="quantized=False of BiRealNet18 does not suit the weights"):
        zoo.BiRealNet18(weights=their_file, quantized=False)


@pytest.mark.slow
def test_names_as_an_old_h5py_wrote_them(their_file, theirs, tmp_path):
    """As bytes. larq-zoo's own file is older than h5py 3.0."""
    path = shutil.copy(their_file, tmp_path / "old.h5")
    with h5py.File(path, "a") as file:
        for group, attribute in ((file, "layer_names"), *((group, "weight_names") for group in file.values())):
            if attribute in group.attrs:
                group.attrs[attribute] = np.array(list(group.attrs[attribute]), dtype="S")
    with h5py.File(path) as file:
        assert isinstance(file.attrs["layer_names"][0], bytes)
    ours = zoo.BiRealNet18(weights=path, input_shape=(64, 64, 3))
    assert zoo.preprocessing_of(ours).name == "minus1_1"
    np.testing.assert_allclose(ours(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_new_classifier_keeps_their_body(their_file, theirs):
    ours = zoo.BiRealNet18(weights=their_file, input_shape=(64, 64, 3), num_classes=10)
    assert ours.output_shape == (None, 10)
    stem = next(layer for layer in theirs.layers if layer.name.startswith("conv2d"))
    np.testing.assert_array_equal(ours.get_layer("stem_conv").get_weights()[0], stem.get_weights()[0])


@pytest.mark.slow
class TestDelegation:
    def test_their_models_are_listed_apart(self):
        assert "larq/quicknet" in zoo.list_models("larq/*")
        assert not any("/" in name for name in zoo.list_models())

    def test_a_packed_file_brings_one_of_them_back(self, tmp_path):
        model = shaken(zoo.load("larq/quicknet_small", input_shape=(64, 64, 3), num_classes=7))
        path = zoo.save_packed(model, tmp_path / "quicknet.packed")
        again = zoo.load_packed(path)
        np.testing.assert_array_equal(again.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0))
        assert path.stat().st_size < zoo.count(model).memory * 1.05 + 65536

    def test_a_packed_file_says_what_it_expects_and_names(self, tmp_path, caplog):
        options = {"input_shape": (64, 64, 3)}
        model = shaken(zoo.load("larq/quicknet_small", num_classes=3, **options))
        path = zoo.save_packed(model, tmp_path / "three", preprocessing="imagenet", class_names=["a", "b", "c"])
        again = zoo.model_info(zoo.load("larq/quicknet_small", weights=path))
        assert (again.preprocessing.name, again.class_names) == ("imagenet", ("a", "b", "c"))
        assert "starts anew" not in caplog.text
        other = zoo.model_info(zoo.load("larq/quicknet_small", weights=path, num_classes=2))
        assert (other.preprocessing.name, other.class_names) == ("imagenet", None)
        assert "three has 3 classes, but larq_quicknet_small has 2 classes" in caplog.text
        body = zoo.load("larq/quicknet_small", include_top=False, **options)
        path = zoo.save_packed(body, tmp_path / "body")
        with pytest.raises(ValueError, match=r"body holds no classifier: give num_classes"):
            zoo.load("larq/quicknet_small", weights=path)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"include_top": "no"}, ValueError, "include_top must be one of True, False, not 'no'"),
            ({"input_shape": (64, 64)}, ValueError, r"input_shape of larq/quicknet_small must be \(height"),
            ({"input_tensor": IMAGES}, ValueError, "input_tensor must be a Keras tensor"),
            ({"weights": Path("nowhere.onebit")}, FileNotFoundError, "nowhere"),
        ],
    )
    def test_arguments_are_checked_as_everywhere(self, options, error, message):
        with pytest.raises(error, match=message):
            zoo.load("larq/quicknet_small", **options)

    @pytest.mark.parametrize("name", zoo.list_models("larq/*"))
    def test_their_classifier_is_told_from_the_body(self, name):
        """AlexNet, XNOR-Net and DoReFa-Net have more in it than one dense layer."""
        shape = (224, 224, 3)
        whole = zoo.load(name, num_classes=7, input_shape=shape)
        body = zoo.load(name, include_top=False, input_shape=shape)
        names = set(named_variables(whole))
        assert {each for each in names if not each.startswith("logits")} == set(named_variables(body))
        assert whole.output_shape == (None, 7) and any(each.startswith("logits") for each in names)
        release_custom_gradients()

    def test_their_own_network_takes_their_file(self, theirs, their_file):
        model = zoo.load("larq/birealnet", weights=str(their_file), input_shape=(64, 64, 3))
        np.testing.assert_allclose(model(IMAGES), theirs(IMAGES), rtol=1e-5, atol=1e-7)

    def test_another_head_on_a_packed_body(self, tmp_path):
        name, shape = "larq/quicknet_small", (64, 64, 3)
        model = shaken(zoo.load(name, input_shape=shape, num_classes=7))
        path = zoo.save_packed(model, tmp_path / "quicknet.packed")
        image = tf.keras.Input((64, 96, 3))
        other = zoo.load(name, weights=str(path), input_tensor=image, num_classes=9)
        assert tf.keras.Model(image, other.output).output_shape == (None, 9)
        assert zoo.model_info(other).arguments["input_shape"] == (64, 96, 3)
        before = named_variables(zoo.load_packed(path))  # with new latent weights
        for body in zoo.load(name, weights=str(path), input_shape=shape, include_top=False), other:
            after = {key: value for key, value in named_variables(body).items() if not key.startswith("logits")}
            assert after.keys() == {key for key in before if not key.startswith("logits")}
            for key, value in after.items():
                np.testing.assert_array_equal(before[key], value)
        with pytest.raises(ValueError, match="num_classes must be a positive integer, not 0"):
            zoo.load(name, num_classes=0)

    def test_on_a_tensor_of_other_layers(self):
        name, image = "larq/quicknet_small", tf.keras.Input((64, 64, 3))
        alone = shaken(zoo.load(name, input_shape=(64, 64, 3), num_classes=3))
        model = zoo.load(name, input_tensor=tf.keras.layers.Rescaling(2.0, -1.0)(image), num_classes=3)
        assert model.input is image and zoo.model_info(model) is None
        assert isinstance(model.layers[1], tf.keras.layers.Rescaling)
        model.set_weights(alone.get_weights())
        np.testing.assert_allclose(model((IMAGES + 1) / 2), alone(IMAGES), rtol=1e-4, atol=1e-6)

    def test_their_weights_with_other_classes(self, monkeypatch):
        """Their body, and a classifier that starts anew, in one call."""
        make = larq_zoo.sota.QuickNetSmall

        def published(weights, include_top=True, num_classes=1000, **options):
            assert weights is None or num_classes == 1000
            tf.keras.utils.set_random_seed(5)
            model = make(weights=None, include_top=include_top, num_classes=num_classes, **options)
            return model if weights is None else shaken(model)

        monkeypatch.setattr(larq_zoo.sota, "QuickNetSmall", published)
        options = {"weights": "imagenet", "input_shape": (64, 64, 3)}
        body = zoo.load("larq/quicknet_small", include_top=False, **options)
        model = zoo.load("larq/quicknet_small", num_classes=7, **options)
        assert model.output_shape == (None, 7) and zoo.preprocessing_of(model).name == "minus1_1"
        variables = named_variables(model)
        for name, value in named_variables(body).items():
            np.testing.assert_array_equal(variables[name], value)

    def test_names_do_not_depend_on_what_was_built_before(self):
        first, second = (zoo.load("larq/quicknet_small", input_shape=(64, 64, 3), num_classes=2) for _ in range(2))
        names = [[layer.name for layer in model.layers if layer.weights] for model in (first, second)]
        assert names[0] == names[1]

    def test_unknown_weights_are_an_error(self):
        with pytest.raises(ValueError, match="must be None, 'imagenet' or the path"):
            zoo.load("larq/quicknet", weights="cifar10")


@pytest.mark.slow
def test_a_file_cannot_claim_more_than_it_holds(their_file, tmp_path):
    path = shutil.copy(their_file, tmp_path / "large.h5")
    with h5py.File(path, "a") as file:
        dense = next(name for name in file if name.startswith("dense"))
        kernel = next(name for name in file[dense].attrs["weight_names"] if "kernel" in name)
        del file[dense][kernel]
        file[dense].create_dataset(kernel, (512, 10**9), "f4")  # never written
    with pytest.raises(ValueError, match=r"large\.h5 is not .* claims"):
        zoo.BiRealNet18(weights=path)


@pytest.mark.slow
@pytest.mark.parametrize("names", [[], ["no_such_group"], [1, 2], 3])
def test_a_file_of_damaged_names_is_an_error(names, their_file, tmp_path):
    path = shutil.copy(their_file, tmp_path / "damaged.h5")
    with h5py.File(path, "a") as file:
        file.attrs["layer_names"] = names
    with pytest.raises(ValueError, match=r"damaged\.h5"):
        zoo.BiRealNet18(weights=path)


def test_weights_that_cannot_be_fetched(monkeypatch, capsys):
    def fetch(**_: object) -> None:
        print("Downloading data")
        raise Exception("URL fetch failure on https://example.org: None")  # as Keras raises it

    monkeypatch.setattr(larq_zoo.sota, "QuickNetSmall", fetch)
    fetch.__name__ = "QuickNetSmall"
    with pytest.raises(ConnectionError, match="weights of QuickNetSmall cannot be fetched: URL fetch failure"):
        zoo.load("larq/quicknet_small", weights="imagenet")
    assert not capsys.readouterr().out
