"""The registered datasets and APIs, by name."""

from typing import Callable, Dict, Type, TypeVar

from ringmark.plugin.api import ApiPluginBase
from ringmark.plugin.dataset import DatasetPluginBase

Dataset = TypeVar("Dataset", bound=Type[DatasetPluginBase])
Api = TypeVar("Api", bound=Type[ApiPluginBase])

DATASETS: Dict[str, Type[DatasetPluginBase]] = {}
APIS: Dict[str, Type[ApiPluginBase]] = {}


def register_dataset(name: str) -> Callable[[Dataset], Dataset]:
    """Registers a class as ``dataset=name``. It takes precedence over a built-in dataset of that name."""

    def register(plugin: Dataset) -> Dataset:
        if not (isinstance(plugin, type) and issubclass(plugin, DatasetPluginBase)):
            raise TypeError(f"@register_dataset('{name}') needs a class derived from DatasetPluginBase")
        DATASETS[name] = plugin
        return plugin

    return register


def register_api(name: str) -> Callable[[Api], Api]:
    """Registers a class as ``api=name``. It takes precedence over a built-in API of that name."""

    def register(plugin: Api) -> Api:
        if not (isinstance(plugin, type) and issubclass(plugin, ApiPluginBase)):
            raise TypeError(f"@register_api('{name}') needs a class derived from ApiPluginBase")
        APIS[name] = plugin
        return plugin

    return register
