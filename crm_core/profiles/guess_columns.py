"""Guess what the columns of a file mean, by their names and by what is in them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from crm_core.profiles.dates import EPOCHS, parsed

# What a column may be → its names in lower case, without accents and signs, in several languages.
NAMES: Mapping[str, str] = {
    "entity_uid": "entityuid",
    "first": "firstname vorname givenname forename prenom nombre first",
    "last": "lastname nachname surname familyname familienname nomdefamille apellido apellidos last",
    "name": "displayname name fullname customername accountname contactname kunde kundenname partner partnername"
    " completename nom vollername person",
    "company": "company companyname firma firmenname organisation organization organizationname unternehmen entreprise"
    " societe empresa account institution",
    "type": "entitytype type typ art kategorie recordtype kind personenart companytype iscompany",
    "email": "email emailaddress mail emailadresse mailadresse courriel correo emailwork workemail",
    "phone": "phone telephone telefon tel phonenumber telefonnummer businessphone telefono workphone mobilephone mobile"
    " mobil handy",
    "website": "website web url homepage webseite websiteurl companydomainname siteweb domain",
    "address": "address adresse anschrift fulladdress contactaddress direccion addresscomplete",
    "street": "street strasse streetaddress mailingstreet billingstreet rue calle street1",
    "zip": "zip plz postalcode zipcode postleitzahl mailingpostalcode billingpostalcode codepostal postcode",
    "city": "city ort stadt mailingcity billingcity ville ciudad town",
    "country": "country land mailingcountry billingcountry pays pais countryregion",
    "key": "id externalid kundennr kundennummer kdnr customerid customernumber customerno accountid recordid contactid"
    " nr no number nummer partnerid debitor debitornr key code ref reference accountnumber partnernr uuid guid uid",
    "changed": "changets updated updatedat lastmodified lastmodifieddate modified modifiedat geandert geandertam"
    " changed changedat writedate lastupdated lastupdatedon lastupdate stand anderungsdatum asof validfrom gultigab"
    " modifiedon datemodified lastchange geaendert geaendertam aenderungsdatum gueltigab",
    "op": "op operation",
    "deleted": "isdeleted deleted geloescht geloscht loschvermerk loeschvermerk loschkennzeichen removed isremoved",
}
_BY_NAME = {name: what for what, names in NAMES.items() for name in names.split()}
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", "T%H:%M:%S")
_DAYS = ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%d.%m.%y", "%d-%b-%Y"]
_MIXED = {"%d/%m/%Y": "%m/%d/%Y", "%d-%m-%Y": "%m-%d-%Y"}  # the same digits read in two ways
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?$"
_EPOCH, _EPOCH_MS = r"^1\d{9}$", r"^1\d{12}$"
_UUID = r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$"
_CODE = r"^[A-Za-z_./-]{0,20}[0-9][A-Za-z0-9_./-]{0,20}$"
MOSTLY = 0.8  # the share of the texts of a column that are what it is taken for


@dataclass(frozen=True, slots=True)
class DateGuess:
    """How the dates of a column are written."""

    formats: tuple[str, ...]  # none: ISO 8601
    or_else: str | None = None  # the format that fits as well: day and month may be the other way round


def meaning(column: str) -> str | None:
    """Return what a column may be by its name: a key of NAMES, or None."""
    tidy = plain(column)
    if tidy in _BY_NAME:
        return _BY_NAME[tidy]
    last = plain(re.split(r"[./]", column)[-1])  # of a path in JSON, or of a relation
    return _BY_NAME.get(last) if last != tidy else None


def plain(name: str) -> str:
    """Return a name of letters and digits alone, in lower case and without accents."""
    name = name.replace("ß", "ss")
    bare = "".join(char for char in unicodedata.normalize("NFKD", name) if not unicodedata.combining(char))
    return re.sub(r"[^a-z0-9]", "", bare.lower())


def dates_of(texts: pl.Series) -> DateGuess | None:
    """Return how the dates of a column are written, if nearly all its texts are dates."""
    given = texts.str.strip_chars().replace({"": None}).drop_nulls()
    if given.is_empty():
        return None
    if _share(given.str.contains(_ISO)) >= MOSTLY:
        return DateGuess(())
    for name, pattern in (("epoch", _EPOCH), ("epoch_ms", _EPOCH_MS)):
        if _share(given.str.contains(pattern)) == 1 and name in EPOCHS:
            return DateGuess((name,))
    fitting = {each: _share(parsed(given, each).is_not_null()) for each in _formats(given)}
    sound = {each: share for each, share in fitting.items() if share >= MOSTLY}
    if not sound:
        return None
    best = max(sound, key=lambda each: sound[each])
    day = next((day for day in _DAYS if best.startswith(day)), best)
    other = best.replace(day, _MIXED[day]) if day in _MIXED else None
    return DateGuess((best,), other if other and sound.get(other, 0) == sound[best] else None)


def is_unique(texts: pl.Series) -> bool:
    """Return whether each text is there, and once."""
    return len(texts) > 0 and not texts.null_count() and texts.n_unique() == len(texts)


def are_codes(texts: pl.Series) -> bool:
    """Return whether all texts may be numbers or codes of something: short, with digits and without white space."""
    return bool(texts.str.contains(_CODE).fill_null(value=False).all())


def are_uuids(texts: pl.Series) -> bool:
    """Return whether all texts are UUIDs."""
    return len(texts.drop_nulls()) > 0 and bool(texts.drop_nulls().str.contains(_UUID).all())


def _formats(given: pl.Series) -> Iterable[str]:
    """Yield the formats that the first text has."""
    first = given.head(50)
    for day in _DAYS:
        for clock in _CLOCKS:
            if parsed(first, day + clock).null_count() <= len(first) * (1 - MOSTLY):
                yield day + clock


def _share(are: pl.Series) -> float:
    return float(are.sum() or 0) / max(len(are), 1)
