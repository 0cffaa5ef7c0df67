"""Forms made of typed questions: each field of the dataclass is one of the form."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from django import forms
from tom_dataservices.forms import BaseQueryForm

from nuncius.errors import ConfigurationError, FilterError, NunciusError

if TYPE_CHECKING:
    from nuncius.tom.questions import Question


class QuestionForm(BaseQueryForm):  # type: ignore[misc]
    """A form whose values make a question; `form_of` makes the form of each kind."""

    question: type[Question]

    def clean(self) -> dict[str, Any]:
        """Refuse what means nothing, beside the field that is meant."""
        values: dict[str, Any] = super().clean() or self.cleaned_data
        check_question(self, self.question, values)
        return values

    def get_simple_form_partial(self) -> None:
        """Return None: the form is small enough as it is."""

    def get_advanced_form_partial(self) -> None:
        """Return None, likewise."""


def form_of(question: type[Question]) -> type[QuestionForm]:
    """Return the form of a kind of question."""
    return type(f"{question.__name__}Form", (QuestionForm,), {"question": question, **form_fields(question)})


def form_fields(question: type[Question]) -> dict[str, Any]:
    """Return the form's fields of a kind of question; none of them must be filled in."""
    kinds = {"str": forms.CharField, "int": forms.IntegerField, "float": forms.FloatField}
    made = {}
    for item in fields(question):
        about = item.metadata
        kind = kinds[str(item.type).partition(" ")[0]]
        field = kind(required=False, initial=item.default, label=about["label"], help_text=about["help"])
        field.widget.attrs["placeholder"] = about["example"]
        if kind is not forms.CharField:
            field.widget.attrs["step"] = "any" if kind is forms.FloatField else "1"
        made[item.name] = field
    return made


def check_question(form: Any, question: type[Question], values: dict[str, Any]) -> None:
    """Add what is wrong with a question to a form."""
    try:
        question.of(values)
    except (ConfigurationError, FilterError) as error:
        name = "where" if isinstance(error, FilterError) else error.position
        form.add_error(name if name in form.fields else None, str(error))
    except NunciusError as error:
        form.add_error(None, str(error))
