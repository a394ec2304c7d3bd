"""Description of one operation."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from reprlib import repr as shortened
from typing import Any

from gradnas.arch.limits import MAX_INPUTS
from gradnas.arch.params import ConvMacroParams, Params
from gradnas.arch.shapes import check_count

Trainables = Mapping[str, Any]
"""Weights of one op: ``{'name': op name, 'sd': state dict}``; tensors, opaque to this room."""


@dataclass(frozen=True)
class OpDesc:
    """One operation as plain data.

    Args:
        name: Name in the op registry.
        params: Plain values, usually ``conv`` (:class:`ConvMacroParams`) and ``stride`` (1 or 2).
        in_len: Number of input tensors, at least 1.
        trainables: The op's weights or None; not part of its identity, stored beside the JSON, never in it.
        children: Parts of a composite op.
        children_ins: Child i reads input number ``children_ins[i]`` of the op.

    Raises:
        TypeError: For a name that is no string or a parameter that is not plain.
        ValueError: When children and their inputs disagree, a stride is not 1 or 2, or the weights are of another op.
    """

    name: str
    params: Params = field(default_factory=Params)
    in_len: int = 1
    trainables: Trainables | None = field(default=None, compare=False, repr=False, metadata={"stored": False})
    children: tuple["OpDesc", ...] | None = None
    children_ins: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"the name of an op must be a string, got {self.name!r}.")
        if not isinstance(self.params, Params):
            object.__setattr__(self, "params", Params(self.params))
        if self.children is not None:
            object.__setattr__(self, "children", tuple(self.children))
        if self.children_ins is not None:
            object.__setattr__(self, "children_ins", tuple(self.children_ins))
        check_count(self.in_len, f"in_len of op {self.name!r}", maximum=MAX_INPUTS)
        stride = self.params.get("stride", 1)
        if type(stride) is not int or stride not in (1, 2):  # 2.0 and True are no strides
            raise ValueError(f"stride of op {self.name!r} must be 1 or 2, got {stride!r}.")
        if "conv" in self.params and not isinstance(self.params["conv"], ConvMacroParams):
            raise TypeError(
                f"params['conv'] of op {self.name!r} must be ConvMacroParams, got {shortened(self.params['conv'])}."
            )
        if len(self.children or ()) != len(self.children_ins or ()):
            raise ValueError(
                f"op {self.name!r} has {len(self.children or ())} children but {len(self.children_ins or ())} "
                "entries in children_ins; give one input number per child."
            )
        for number in self.children_ins or ():
            if not 0 <= check_count(number, f"children_ins of op {self.name!r}", 0) < self.in_len:
                raise ValueError(f"a child of op {self.name!r} reads input {number}, but in_len is {self.in_len}.")
        if self.trainables is not None and self.trainables.get("name") != self.name:
            raise ValueError(f"weights of {self.trainables.get('name')!r} were given to op {self.name!r}.")

    @property
    def conv(self) -> ConvMacroParams:
        """The channel counts. KeyError when the op has none."""
        value = self.params["conv"]
        assert isinstance(value, ConvMacroParams)
        return value

    @property
    def stride(self) -> int:
        """Spatial division of this op, 1 when it has no such parameter."""
        value = self.params.get("stride", 1)
        assert isinstance(value, int)
        return value

    def clone(self, clone_trainables: bool = True) -> "OpDesc":
        """A copy; without ``clone_trainables`` it has no weights, here and in the children."""
        return self if clone_trainables else self.clear_trainables()

    def with_params(self, **changes: object) -> "OpDesc":
        """A copy with some parameters changed."""
        return replace(self, params=self.params.replace(**changes))

    def with_conv(self, conv: ConvMacroParams) -> "OpDesc":
        """A copy with these channel counts, here and in the children; weights that no longer fit are dropped."""
        children = None if self.children is None else tuple(child.with_conv(conv) for child in self.children)
        kept = self.trainables if self.params.get("conv") == conv else None
        return replace(self, params=self.params.replace(conv=conv), children=children, trainables=kept)

    def clear_trainables(self) -> "OpDesc":
        """A copy without weights, here and in the children."""
        children = None if self.children is None else tuple(child.clear_trainables() for child in self.children)
        return replace(self, trainables=None, children=children)

    def all_ops(self, place: str = "") -> Iterator[tuple[str, "OpDesc"]]:
        """This op and its descendants with their dotted places."""
        yield place, self
        for i, child in enumerate(self.children or ()):
            yield from child.all_ops(f"{place}.children.{i}" if place else f"children.{i}")

    def state_dict(self) -> dict[str, Any]:
        """The weights, here and in the children, as nested plain containers."""
        return {
            "trainables": None if self.trainables is None else dict(self.trainables),
            "children": [child.state_dict() for child in self.children or ()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> "OpDesc":
        """A copy that holds the weights of :meth:`state_dict`.

        Raises:
            ValueError: When the number of children differs.
        """
        stored = list(state["children"])
        if len(stored) != len(self.children or ()):
            raise ValueError(
                f"op {self.name!r} has {len(self.children or ())} children, the stored weights have {len(stored)}."
            )
        children = tuple(child.load_state_dict(s) for child, s in zip(self.children or (), stored, strict=True))
        return replace(self, trainables=state["trainables"], children=children if self.children is not None else None)
