"""The registered datasets and APIs, by name."""

from typing import Callable, Dict, List, Type, TypeVar, Union

from ringmark.plugin.api import ApiPluginBase
from ringmark.plugin.dataset import DatasetPluginBase

Dataset = TypeVar("Dataset", bound=Type[DatasetPluginBase])
Api = TypeVar("Api", bound=Type[ApiPluginBase])

DATASETS: Dict[str, Type[DatasetPluginBase]] = {}
APIS: Dict[str, Type[ApiPluginBase]] = {}


def register_dataset(name: Union[str, List[str]]) -> Callable[[Dataset], Dataset]:
    """Registers a class as ``dataset=name``; a list has several names. It takes precedence over a built-in dataset of that
    name.
    """

    def register(plugin: Dataset) -> Dataset:
        _check("register_dataset", name, plugin, DatasetPluginBase)
        DATASETS.update({each: plugin for each in _names(name)})
        return plugin

    return register


def register_api(name: Union[str, List[str]]) -> Callable[[Api], Api]:
    """Registers a class as ``api=name``; a list has several names. It takes precedence over a built-in API of that name."""

    def register(plugin: Api) -> Api:
        _check("register_api", name, plugin, ApiPluginBase)
        APIS.update({each: plugin for each in _names(name)})
        return plugin

    return register


def _names(name: Union[str, List[str]]) -> List[str]:
    return [name] if isinstance(name, str) else name


def _check(decorator: str, name: Union[str, List[str]], plugin: object, base: type) -> None:
    if not (isinstance(name, (str, list)) and all(isinstance(each, str) for each in name)):
        raise TypeError(f"@{decorator} needs a name or a list of names, not {name!r}")
    if not (isinstance(plugin, type) and issubclass(plugin, base)):
        raise TypeError(f"@{decorator}({name!r}) needs a class derived from {base.__name__}")
