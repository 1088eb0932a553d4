"""The names of classes that are data sets or APIs."""

from typing import Callable, Dict, Type, TypeVar

from ringmark.plugin.api import ApiPluginBase
from ringmark.plugin.dataset import DatasetPluginBase

Dataset = TypeVar("Dataset", bound=Type[DatasetPluginBase])
Api = TypeVar("Api", bound=Type[ApiPluginBase])

DATASETS: Dict[str, Type[DatasetPluginBase]] = {}
APIS: Dict[str, Type[ApiPluginBase]] = {}


def register_dataset(name: str) -> Callable[[Dataset], Dataset]:
    """Makes a class known as ``dataset=name``; it goes before a data set of that name that is built in."""

    def register(plugin: Dataset) -> Dataset:
        if not (isinstance(plugin, type) and issubclass(plugin, DatasetPluginBase)):
            raise TypeError(f"@register_dataset('{name}') wants a class derived from DatasetPluginBase")
        DATASETS[name] = plugin
        return plugin

    return register


def register_api(name: str) -> Callable[[Api], Api]:
    """Makes a class known as ``api=name``; it goes before an API of that name that is built in."""

    def register(plugin: Api) -> Api:
        if not (isinstance(plugin, type) and issubclass(plugin, ApiPluginBase)):
            raise TypeError(f"@register_api('{name}') wants a class derived from ApiPluginBase")
        APIS[name] = plugin
        return plugin

    return register
