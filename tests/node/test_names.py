"""Names as they are spelt in India: what one name's spellings share, and that no text breaks it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwc_node import names

SPELLINGS = (
    "Lakshmi Laxmi LAXMEE Laksmi लक्ष्मी ಲಕ್ಷ್ಮಿ లక్ష్మి ലക്ഷ്മി লক্ষ্মী",
    "Sunita Suneeta सुनीता சுனிதா",
    "Mohammed Muhammad Mohamad मोहम्मद",
    "Krishna Krushna कृष्णा",
    "Vishwanath Viswanath विश्वनाथ",
    "Jyoti Jyothi ज्योति",
    "Geeta Gita Geetha गीता",
    "Pooja Puja पूजा",
    "Zainab Jainab Zaynab ज़ैनब",
    "Chandra Chander चंद्र",
    "Shiv Siv Shiva शिव",
    "Savitri Savithri सावित्री",
    "Ramesh Ramesha रमेश",
    "Venkatesh వెంకటేశ్ வெங்கடேஷ்",
    "Fatima Phatima Faatima ஃபாத்திமா",
    "Singh ਸਿੰਘ",
    "Jaswinder ਜਸਵਿੰਦਰ",
    "Arora अरोड़ा ਅਰੋੜਾ",
    "Sharat শরৎ",
    "Ramesh ৰমেশ",
    "Rajan രാജൻ രാജന്‍",
    "Sukumar സുകുമാർ",
    "Gopal ഗോപാൽ",
    "Sundaram సుందరం ಸುಂದರಂ സുന്ദരം",
    "Kanimozhi கனிமொழி",
    "Meenakshi மீனாட்சி",
    "Manjula மஞ்சுளா",
    "Pechi பேச்சி",
    "Dnyaneshwar Gyaneshwar Jnaneshwar ज्ञानेश्वर",
    "Rajni Rajani रजनी",
    "Shah शाह શાહ",
    "Ahmed Ahmad Ahamed अहमद",
    "Rahman Rehman रहमान",
    "Surya सूर्या सूर्\u200dया",
    "Chowdhury Chaudhari चौधरी",
    "Gowda ಗೌಡ",
    "Rawat रावत",
    "Annie ॲनी",
    "Om ओम ॐ",
    "D'Souza D’Souza",
)
DIFFERENT = ("Ramesh Suresh", "Sunita Anita", "Lakshmi Lakhan", "Geeta Seeta", "Mohan Sohan", "Asha Usha")


@pytest.mark.parametrize("spelt", SPELLINGS)
def test_the_spellings_of_a_name_have_one_key(spelt: str) -> None:
    assert len({names.keys(one) for one in spelt.split()}) == 1, [names.keys(one) for one in spelt.split()]


@pytest.mark.parametrize("spelt", DIFFERENT)
def test_different_names_have_different_sounds(spelt: str) -> None:
    one, other = spelt.split()
    assert names.sounds(one) != names.sounds(other)


def test_honorifics_case_and_marks_are_no_part_of_a_name() -> None:
    assert names.sounds("Smt. LAKSHMI Devi") == names.sounds("laxmi  deví") == ("laksmi", "devi")
    assert names.sounds("D'Souza") == names.sounds("DSouza")
    assert names.sounds("श्रीमती लक्ष्मी कुमारी") == names.sounds("Lakshmi")


@pytest.mark.parametrize("name", ["محمد خان", "ᱥᱩᱱᱤᱛᱟ ᱢᱩᱨᱢᱩ"])
def test_a_name_in_another_script_stands_for_itself(name: str) -> None:
    assert names.sounds(name) == tuple(name.split())
    assert names.sounds(unicodedata.normalize("NFD", name) + " Devi") == (*name.split(), "devi")


def test_who_is_called_by_an_honorific_alone_has_a_name() -> None:
    assert names.sounds("Kumari") == names.sounds("कुमारी") == ("kumari",)


def test_numbers_are_digits_of_any_script_and_long_enough_to_tell_somebody() -> None:
    assert names.digits("+91 98450-12345") == "919845012345"
    assert names.digits("९८४५०") == "98450"
    assert names.digits("ward 12") == ""
    assert names.words({"name": "Laxmi", "phone": "98450 12345", "abha": "91-1234-5678-9012", "village": "X"}) == (
        "laksmi",
        "9845012345",
        "91123456789012",
    )


@given(st.text(max_size=300))
def test_any_text_has_sounds_of_plain_letters_in_bounded_number(text: str) -> None:
    found = names.sounds(text)
    assert len(found) <= names.MAX_WORDS
    assert all(one.isalpha() and one.islower() for one in found if one.isascii())
    assert not any(set(one) & set(" abcdefghijklmnopqrstuvwxyz") for one in found if not one.isascii())
    assert names.sounds(text) == names.sounds(text.upper().lower()) or not text.isascii()
    assert all(names.key_of(one)[0] == one[0] for one in found)


@given(st.text(max_size=40))
def test_what_is_spelt_in_latin_letters_stays_as_it_is(text: str) -> None:
    plain = "".join(one for one in text if not names.is_indic(one))
    assert names.latin(plain) == unicodedata.normalize("NFC", plain)
