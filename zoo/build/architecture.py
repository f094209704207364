"""What makes a function that builds a network one of the zoo's: the same options, defaults and errors for all."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Concatenate, ParamSpec, cast, get_type_hints

import tensorflow as tf

from ...util.arguments import check_data_format, to_python
from .budget import building
from .options import OPTIONS, OPTIONS_DOC, ModelOptions
from ..registry import Task
from .builder import Scaffold

_P = ParamSpec("_P")


def architecture(
    task: Task, dependent: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
) -> Callable[[Callable[Concatenate[Scaffold, _P], tf.keras.Model]], Callable[_P, tf.keras.Model]]:
    """Return a decorator for a function that builds a network on a `Scaffold`; what it makes is public.

    The keyword arguments of the decorated function are the architecture's own, with their defaults. The public function
    also takes `ModelOptions`. An argument that the caller leaves open, or gives as ``None``, is what the weights say,
    else its default. The decorated function is called with these values; ``scaffold.arguments`` has them too.

    Args:
        task: What the network is for.
        dependent: Returns the defaults that depend on the values of other arguments, which it is given.
    """

    def decorate(build: Callable[Concatenate[Scaffold, _P], tf.keras.Model]) -> Callable[_P, tf.keras.Model]:
        signature = inspect.signature(build, eval_str=True)
        own = {name: p for name, p in signature.parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
        known = {*own, *OPTIONS}

        @functools.wraps(build)
        def public(**arguments: Any) -> tf.keras.Model:
            for name in arguments:
                if name not in known:
                    raise TypeError(
                        f"{build.__name__}() has no argument {name!r}; it takes {', '.join(sorted(known))}."
                    )
            check_data_format()
            arguments = {name: to_python(value) for name, value in arguments.items()}
            options = {name: arguments[name] for name in OPTIONS.keys() & arguments.keys()}
            given = {name: arguments[name] for name in own if arguments.get(name) is not None}
            defaults = {name: parameter.default for name, parameter in own.items()}
            if dependent is not None:
                defaults.update(dependent({**defaults, **given}))
            with building():
                scaffold = Scaffold(build.__name__, task, given, defaults, cast(ModelOptions, options))
                return cast(Any, build)(scaffold, **scaffold.arguments)

        hints = get_type_hints(ModelOptions)
        shared = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name])
            for name, default in OPTIONS.items()
        ]
        described = cast(Any, public)
        described.__signature__ = signature.replace(parameters=[*own.values(), *shared])
        described.__doc__ = inspect.cleandoc(build.__doc__ or "") + OPTIONS_DOC
        described.task = task
        return described

    return decorate
